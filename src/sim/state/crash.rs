//! The state that a crash leaves: names first, then the bytes of what still has one.

use super::{Contents, FileNode, Names, Node, NodeKind, State};
use crate::sim::crash::{Choices, CrashPolicy, Nothing, Seeded};

impl State {
    pub(in crate::sim) fn crash(&self, policy: CrashPolicy) -> State {
        match policy {
            CrashPolicy::Kill => self.found(self.names.clone(), |file| file.contents.clone()),
            CrashPolicy::PowerLoss => self.after_power_loss(&mut Nothing),
            CrashPolicy::Seeded(seed) => self.after_power_loss(&mut Seeded::new(seed)),
        }
    }

    /// Asks about the names first, then about each file that has one.
    pub(in crate::sim) fn after_power_loss(&self, choices: &mut dyn Choices) -> State {
        choices.next_subject();
        let names = self.names.after_power_loss(choices);
        self.found(names, |file| {
            choices.next_subject();
            Contents::found(file.contents.after_power_loss(choices))
        })
    }

    fn found(&self, names: Names, mut contents: impl FnMut(&FileNode) -> Contents) -> State {
        let possible = names.possible_nodes();
        let nodes = self.nodes.iter().filter(|(id, _)| possible.contains(id)).map(|(id, node)| {
            let kind = match &node.kind {
                NodeKind::Directory => NodeKind::Directory,
                NodeKind::File(file) => NodeKind::File(FileNode { contents: contents(file), ..FileNode::default() }),
            };
            (*id, Node { kind, handles: 0, locked: false })
        });
        State {
            no_unnamed: self.no_unnamed,
            nodes: nodes.collect(),
            names,
            next_node: self.next_node,
            moment: self.moment,
            capacity_bytes: self.capacity_bytes,
            ..State::default()
        }
    }
}

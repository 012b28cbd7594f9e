//! Members come, are heard of, and go.

use std::time::Duration;

use super::{Coordinator, Departure, Effect, Join, Member, REMEMBERED};
use crate::error::{Error, ErrorKind, Result};

impl Coordinator {
    /// Takes a member in and gives the partitions out anew; returns its id. One that comes with the
    /// instance id of another takes that one's place: if the other was away, nobody is disturbed; if
    /// it was alive, it is fenced.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for another assignor than the group's.
    pub(crate) fn join(&mut self, join: Join, now: Duration) -> Result<(String, Vec<Effect>)> {
        let mut effects = self.tick(now);
        if self.members.is_empty() {
            self.assignor = join.assignor.clone();
        } else if self.assignor.name() != join.assignor.name() {
            let (ours, asked) = (self.assignor.name(), join.assignor.name());
            let reason =
                format!("group {:?} assigns with {ours:?}, not {asked:?}: all members ask for the same", self.name);
            return Err(Error::invalid(reason));
        }
        self.last_member += 1;
        let id = format!("{}-{}-{:04}", join.client_id, self.epoch, self.last_member);
        let mut member = Member {
            heard: now,
            polled: now,
            away: false,
            generation: 0,
            target: Default::default(),
            held: Default::default(),
            fresh: Default::default(),
            lost: Default::default(),
            must_give: false,
            join,
        };
        let takes_place = self.take_place(&mut member, &id, &mut effects);
        self.members.insert(id.clone(), member);
        if takes_place {
            self.settled = false;
            if !self.reconcile(&mut effects) {
                effects.push(Effect::Store);
            }
        } else {
            self.rebalance(&mut effects);
        }
        Ok((id, effects))
    }

    /// Puts a member into the place of the one with its instance id. Whether all stays as it was.
    fn take_place(&mut self, member: &mut Member, id: &str, effects: &mut Vec<Effect>) -> bool {
        let Some(instance_id) = &member.join.instance_id else { return false };
        let same = |(_, other): &(&String, &Member)| other.join.instance_id.as_ref() == Some(instance_id);
        let Some(old_id) = self.members.iter().find(same).map(|(id, _)| id.clone()) else { return false };
        let Some(old) = self.members.remove(&old_id) else { return false };
        if !old.away {
            self.remember(old_id.clone(), Departure::Fenced, old.join.instance_id.clone());
            effects.push(Effect::Gone(old_id.clone(), Departure::Fenced));
            effects.push(Effect::Wake(old_id));
        }
        for partition in &old.held {
            self.holders.insert(*partition, id.to_owned());
        }
        // It reads them from the committed offsets on, like anything granted.
        member.fresh = old.held.iter().copied().collect();
        member.held = old.held;
        member.target = old.target;
        old.join.subscription == member.join.subscription
    }

    /// The member is alive, and will be until `until`: it called, or sits in a poll that lasts so
    /// long. With `polling`, that was a poll.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownMember`] with the reason, [`ErrorKind::FencedInstance`].
    pub(crate) fn heartbeat(&mut self, id: &str, until: Duration, polling: bool) -> Result<()> {
        let member = self.member_mut(id)?;
        member.heard = until;
        if polling {
            member.polled = until;
        }
        Ok(())
    }

    /// The member's handle is gone. With an instance id it keeps its place until the session time-out.
    pub(crate) fn leave(&mut self, id: &str, now: Duration) -> Vec<Effect> {
        self.departed.remove(id);
        match self.members.get_mut(id) {
            Some(member) if member.join.instance_id.is_some() => {
                member.away = true;
                (member.heard, member.polled) = (now, now);
                Vec::new()
            }
            Some(_) => self.remove(&[(id.to_owned(), Departure::Left)]),
            None => Vec::new(),
        }
    }

    /// Removes those who weren't heard of in time.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let late = |member: &Member| {
            let (session, poll) = (member.join.session_timeout, member.join.max_poll_interval);
            if member.heard.saturating_add(session) <= now {
                Some(Departure::TimedOut)
            } else if !member.away && member.polled.saturating_add(poll) <= now {
                Some(Departure::Stalled)
            } else {
                None
            }
        };
        let gone: Vec<_> =
            self.members.iter().filter_map(|(id, member)| late(member).map(|why| (id.clone(), why))).collect();
        if gone.is_empty() { Vec::new() } else { self.remove(&gone) }
    }

    /// When [`tick`](Coordinator::tick) has something to do next, if nobody is heard of until then.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadline = |member: &Member| {
            let session = member.heard.saturating_add(member.join.session_timeout);
            let poll = member.polled.saturating_add(member.join.max_poll_interval);
            if member.away { session } else { session.min(poll) }
        };
        self.members.values().map(deadline).min()
    }

    fn remove(&mut self, gone: &[(String, Departure)]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (id, why) in gone {
            let Some(member) = self.members.remove(id) else { continue };
            for partition in &member.held {
                self.holders.remove(partition);
            }
            if *why != Departure::Left {
                self.remember(id.clone(), *why, member.join.instance_id);
                effects.push(Effect::Wake(id.clone()));
            }
            effects.push(Effect::Gone(id.clone(), *why));
        }
        self.rebalance(&mut effects);
        if self.members.is_empty() {
            effects.push(Effect::Empty);
        }
        effects
    }

    fn remember(&mut self, id: String, why: Departure, instance_id: Option<String>) {
        while self.departed.len() >= REMEMBERED {
            self.departed.pop_first();
        }
        self.departed.insert(id, (why, instance_id));
    }

    pub(super) fn member_mut(&mut self, id: &str) -> Result<&mut Member> {
        if !self.members.contains_key(id) {
            return Err(self.why_gone(id));
        }
        self.members.get_mut(id).ok_or_else(|| Error::invalid("no such member"))
    }

    /// What to tell someone who is no member.
    pub(super) fn why_gone(&self, id: &str) -> Error {
        let (group, member) = (self.name.clone(), id.to_owned());
        let departed = self.departed.get(id);
        // It was late, and meanwhile another came with its instance id: coming back would fence that one.
        let replaced = departed.is_some_and(|(_, instance_id)| {
            instance_id.is_some() && self.members.values().any(|member| member.join.instance_id == *instance_id)
        });
        let reason = match departed.map(|(why, _)| why) {
            Some(Departure::Fenced) => return Error::new(ErrorKind::FencedInstance { group, member }),
            _ if replaced => return Error::new(ErrorKind::FencedInstance { group, member }),
            Some(Departure::TimedOut) => "it made no call within the session time-out",
            Some(Departure::Stalled) => "it did not poll within the poll time-out",
            Some(Departure::Left) | None => "it left, or never joined",
        };
        Error::new(ErrorKind::UnknownMember { group, member, reason })
    }
}

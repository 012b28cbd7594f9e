//! `group plan`: what an assignor would make of a group that is described on stdin.
//!
//! Pure what-if: no data directory is touched. What is printed is the whole target; partitions that
//! somebody would first have to give back are in it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use serde_json::{Map, Value};
use thalweg::assignor::{Assignment, Assignor, MemberSubscription, Range, RoundRobin};
use thalweg::assignor::{Sticky, Subscriptions, TopicPartitions};

use crate::args::{AssignorName, PlanArgs};
use crate::failure::Failure;
use crate::lines::{self, WatchedStdin};
use crate::output;

/// As many as a topic can have.
const MAX_PARTITIONS: u64 = 100_000;
/// More in all topics together are refused, so that a slip of the pen takes no gigabytes.
const MAX_PARTITIONS_TOTAL: u64 = 10_000_000;

pub(crate) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let assignor: &dyn Assignor = match args.assignor {
        AssignorName::Range => &Range,
        AssignorName::RoundRobin => &RoundRobin,
        AssignorName::Sticky => &Sticky,
    };
    let mut text = Vec::new();
    let read = lines::stdin().and_then(|stdin| WatchedStdin::new(stdin, true).read_to_end(&mut text));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::StdoutClosed,
        _ => Failure::new(format!("could not read stdin: {error}")),
    })?;
    let document = serde_json::from_slice(&text).map_err(|error| wrong(format!("it is not valid JSON: {error}")))?;
    drop(text);
    let input = Plan::read(document)?.input();
    let assignment = assignor.assign(&input);
    let mut out = output::stdout()?;
    write(&mut out, &input, &assignment).and_then(|()| out.flush()).map_err(Failure::stdout)
}

/// A group as stdin describes it.
#[derive(Default)]
struct Plan {
    topics: Vec<TopicPartitions>,
    members: Vec<MemberSubscription>,
    /// The index of each topic's name in `topics`.
    indexes: HashMap<String, usize>,
}

impl Plan {
    fn read(document: Value) -> Result<Plan, Failure> {
        let Value::Object(mut document) = document else { return Err(wrong("it is not a JSON object")) };
        let mut plan = Plan::default();
        match document.remove("topics") {
            Some(Value::Object(topics)) => plan.read_topics(topics)?,
            Some(_) => return Err(wrong("\"topics\" is not an object")),
            None => return Err(wrong("\"topics\" is missing")),
        }
        match document.remove("members") {
            Some(Value::Array(members)) => plan.read_members(members)?,
            Some(_) => return Err(wrong("\"members\" is not an array")),
            None => return Err(wrong("\"members\" is missing")),
        }
        Ok(plan)
    }

    fn read_topics(&mut self, topics: Map<String, Value>) -> Result<(), Failure> {
        let mut total = 0;
        for (name, partitions) in topics {
            let count = partitions.as_u64().filter(|&count| count <= MAX_PARTITIONS);
            let Some(count) = count.and_then(|count| u32::try_from(count).ok()) else {
                let most = output::count(MAX_PARTITIONS);
                return Err(wrong(format!(
                    "topic {name:?} has {partitions} partitions; it is a number from 0 to {most}"
                )));
            };
            total += u64::from(count);
            if total > MAX_PARTITIONS_TOTAL {
                let most = output::count(MAX_PARTITIONS_TOTAL);
                return Err(wrong(format!("the topics up to {name:?} have more than {most} partitions together")));
            }
            self.indexes.insert(name.clone(), self.topics.len());
            self.topics.push(TopicPartitions { name, partitions: count });
        }
        Ok(())
    }

    fn read_members(&mut self, members: Vec<Value>) -> Result<(), Failure> {
        let mut ids = HashSet::new();
        for (nth, member) in members.into_iter().enumerate() {
            let member = self.read_member(member).map_err(|what| wrong(format!("members[{nth}]: {what}")))?;
            if !ids.insert(member.id.clone()) {
                return Err(wrong(format!("members[{nth}]: the id {:?} is taken by a member before", member.id)));
            }
            self.members.push(member);
        }
        Ok(())
    }

    fn read_member(&mut self, member: Value) -> Result<MemberSubscription, String> {
        let Value::Object(mut member) = member else { return Err("it is not an object".to_owned()) };
        let id = match member.remove("id") {
            Some(Value::String(id)) => id,
            Some(other) => return Err(format!("\"id\" is {}, not a string", shown(&other))),
            None => return Err("\"id\" is missing".to_owned()),
        };
        let instance_id = match member.remove("instance_id") {
            Some(Value::String(instance_id)) => Some(instance_id),
            None | Some(Value::Null) => None,
            Some(other) => return Err(format!("\"instance_id\" is {}, not a string", shown(&other))),
        };
        let subscriptions = match member.remove("subscriptions") {
            Some(Value::Array(subscriptions)) => subscriptions,
            Some(other) => return Err(format!("\"subscriptions\" is {}, not an array", shown(&other))),
            None => return Err("\"subscriptions\" is missing".to_owned()),
        };
        let mut topics = Vec::with_capacity(subscriptions.len());
        for subscription in subscriptions {
            let Value::String(name) = subscription else {
                return Err(format!("a subscription is {}, not the name of a topic", shown(&subscription)));
            };
            topics.push(self.index(name));
        }
        let owned = match member.remove("owned") {
            Some(Value::Array(owned)) => owned,
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("\"owned\" is {}, not an array", shown(&other))),
        };
        let owned = owned.iter().map(|owned| self.read_owned(owned)).filter_map(Result::transpose);
        let owned = owned.collect::<Result<_, String>>()?;
        let generation = read_generation(member.get("generation"))?;
        Ok(MemberSubscription { id, instance_id, topics, owned, generation })
    }

    /// A topic that doesn't exist has no partitions: nobody gets any of it, but who subscribes to it
    /// has another subscription than who doesn't.
    fn index(&mut self, name: String) -> usize {
        *self.indexes.entry(name).or_insert_with_key(|name| {
            self.topics.push(TopicPartitions { name: name.clone(), partitions: 0 });
            self.topics.len() - 1
        })
    }

    /// `None`: of a topic, or with a number, that doesn't exist.
    fn read_owned(&self, owned: &Value) -> Result<Option<(usize, u32)>, String> {
        let pair = owned.as_array().map(Vec::as_slice);
        let Some((name, partition)) = pair.and_then(|pair| match pair {
            [Value::String(name), partition] => Some((name, partition.as_u64()?)),
            _ => None,
        }) else {
            return Err(format!("{} in \"owned\" is not [topic, partition]", shown(owned)));
        };
        let topic = self.indexes.get(name).copied();
        Ok(topic.zip(u32::try_from(partition).ok()))
    }

    fn input(self) -> Subscriptions {
        Subscriptions::new(self.topics, self.members)
    }
}

/// Negative: none, as Kafka has it.
fn read_generation(generation: Option<&Value>) -> Result<Option<u32>, String> {
    match generation {
        None | Some(Value::Null) => Ok(None),
        Some(generation) => match generation.as_i64().map(u32::try_from) {
            Some(Ok(generation)) => Ok(Some(generation)),
            Some(Err(_)) if generation.as_i64() < Some(0) => Ok(None),
            _ => Err(format!("\"generation\" is {}, not a number up to {}", shown(generation), u32::MAX)),
        },
    }
}

/// The beginning of a value, for an error.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

fn wrong(what: impl std::fmt::Display) -> Failure {
    Failure::new(format!("stdin does not describe a group: {what}"))
        .next("`thalweg group plan --help` shows what it looks like")
}

/// The assignment as one line of JSON, members in the order they were given in.
fn write(out: &mut impl Write, input: &Subscriptions, assignment: &Assignment) -> io::Result<()> {
    let quoted = |text: &str| Value::from(text).to_string();
    let topics: Vec<String> = input.topics().iter().map(|topic| quoted(&topic.name)).collect();
    out.write_all(b"{\"assignment\":{")?;
    for (nth, (member, list)) in input.members().iter().zip(assignment).enumerate() {
        let comma = if nth > 0 { "," } else { "" };
        write!(out, "{comma}{}:[", quoted(&member.id))?;
        for (nth, (topic, partition)) in list.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            write!(out, "{comma}[{},{partition}]", topics[*topic])?;
        }
        out.write_all(b"]")?;
    }
    out.write_all(b"}}\n")
}

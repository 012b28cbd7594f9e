//! Kafka's own outcomes (`tests/data/assignors.json`): members, topics and what each assignor made of
//! them. Every vector is run; how many of which kind is asserted, so that none is skipped unnoticed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::{can_improve, in_transfer, topic};
use crate::assignor::{Assignment, Assignor, MemberSubscription, Range, RoundRobin, Sticky, Subscriptions};

/// What a member reads, by names.
type Named = BTreeMap<String, BTreeSet<(String, u32)>>;

fn file() -> Value {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/assignors.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn pair(value: &Value) -> (String, u32) {
    (text(&value[0]), u32::try_from(value[1].as_u64().unwrap()).unwrap())
}

/// A topic that is subscribed to and doesn't exist has no partitions.
fn input(vector: &Value) -> Subscriptions {
    let existing = vector["topics"].as_object().unwrap();
    let mut topics: Vec<_> = existing.iter().map(|(name, n)| topic(name, n.as_u64().unwrap() as u32)).collect();
    let mut index: HashMap<String, usize> = topics.iter().map(|topic| topic.name.clone()).zip(0..).collect();
    let mut place = |name: String| {
        *index.entry(name.clone()).or_insert_with(|| {
            topics.push(topic(&name, 0));
            topics.len() - 1
        })
    };
    let members = list(&vector["members"]).map(|member| MemberSubscription {
        id: text(&member["id"]),
        instance_id: member["instance_id"].as_str().map(str::to_owned),
        topics: list(&member["subscriptions"]).map(|name| place(text(name))).collect(),
        owned: list(&member["owned"]).map(pair).map(|(name, partition)| (place(name), partition)).collect(),
        generation: member["generation"].as_i64().and_then(|generation| u32::try_from(generation).ok()),
    });
    let members = members.collect();
    Subscriptions::new(topics, members)
}

fn named(input: &Subscriptions, assignment: &Assignment) -> Named {
    let by_name = |&(topic, partition): &(usize, u32)| (input.topics()[topic].name.clone(), partition);
    let members = input.members().iter().zip(assignment);
    members.map(|(member, list)| (member.id.clone(), list.iter().map(by_name).collect())).collect()
}

fn expected(vector: &Value) -> Named {
    let assignment = vector["expect"]["assignment"].as_object().unwrap();
    assignment.iter().map(|(id, partitions)| (id.clone(), list(partitions).map(pair).collect())).collect()
}

/// The target, and what a cooperative rebalance gives at once.
fn run(vector: &Value, input: &Subscriptions) -> (Assignment, Assignment) {
    let assignor: &dyn Assignor = match vector["assignor"].as_str().unwrap() {
        "range" => &Range,
        "roundrobin" => &RoundRobin,
        _ => &Sticky,
    };
    let target = assignor.assign(input);
    let mut now = target.clone();
    if vector["assignor"] == "cooperative-sticky" {
        let withheld = in_transfer(input, &target);
        now.iter_mut().for_each(|list| list.retain(|partition| !withheld.contains(partition)));
    }
    (target, now)
}

fn loads(assignment: &Assignment) -> Vec<u64> {
    let mut loads: Vec<u64> = assignment.iter().map(|list| list.len() as u64).collect();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    loads
}

#[test]
fn outcomes_are_kafkas() {
    let mut ran: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut with_withheld = 0;
    for vector in list(&file()["vectors"]) {
        let name = &vector["name"];
        let input = input(vector);
        let (target, now) = run(vector, &input);
        assert_eq!(input.check(&target), Ok(()), "{name}");
        if vector["expect"]["kind"] == "exact" {
            assert_eq!(named(&input, &now), expected(vector), "{name}");
        }
        // Not recorded everywhere.
        if let Some(withheld) = vector["expect"]["withheld_until_revoked"].as_array() {
            let given: BTreeSet<_> = named(&input, &now).into_values().flatten().collect();
            let left = named(&input, &target).into_values().flatten().filter(|one| !given.contains(one));
            assert_eq!(left.collect::<BTreeSet<_>>(), withheld.iter().map(pair).collect(), "{name}");
            with_withheld += 1;
        }
        let kind = vector["expect"]["kind"].as_str().unwrap();
        *ran.entry((text(&vector["assignor"]), kind.to_owned())).or_default() += 1;
    }
    let ran: Vec<_> = ran.iter().map(|((assignor, kind), count)| (assignor.as_str(), kind.as_str(), *count)).collect();
    let all = [
        ("cooperative-sticky", "exact", 59),
        ("cooperative-sticky", "invariant", 1),
        ("range", "exact", 35),
        ("roundrobin", "exact", 28),
        ("sticky", "exact", 51),
        ("sticky", "invariant", 2),
    ];
    assert_eq!(ran, all);
    assert_eq!(with_withheld, 25);
}

#[test]
fn invariants_are_kafkas() {
    let mut ran = 0;
    for vector in list(&file()["vectors"]) {
        let name = &vector["name"];
        let input = input(vector);
        let (_, now) = run(vector, &input);
        let invariants = &vector["expect"]["invariants"];
        let expected: Vec<u64> = list(&invariants["sorted_loads"]).map(|load| load.as_u64().unwrap()).collect();
        assert_eq!(loads(&now), expected, "{name}");
        let complete = input.topics().iter().map(|topic| topic.partitions as usize).sum::<usize>()
            == now.iter().map(Vec::len).sum::<usize>();
        assert_eq!(invariants["complete"], complete, "{name}");
        assert_eq!(invariants["no_improving_single_move"], !can_improve(&input, &now), "{name}");
        if let Some(retained) = invariants["retained"].as_u64() {
            let kept = input
                .members()
                .iter()
                .zip(&now)
                .flat_map(|(member, list)| list.iter().filter(|&partition| member.owned.contains(partition)));
            assert!(kept.count() as u64 >= retained, "{name}");
        }
        ran += 1;
    }
    assert_eq!(ran, 176);
}

/// What was withheld is handed out by the next rebalance, when everyone has let go.
#[test]
fn the_next_rebalance_hands_out_what_was_withheld() {
    let file = file();
    let mut ran = 0;
    for vector in list(&file["vectors"]) {
        let Some(next) = vector["expect"]["followup_vector"].as_str() else { continue };
        let next = list(&file["vectors"]).find(|vector| vector["name"] == next).unwrap();
        let before = input(vector);
        let (target, now) = run(vector, &before);
        let after = super::settled(&before, &now);
        assert_eq!(named(&after, &run(next, &after).1), expected(next), "{}", vector["name"]);
        assert!(in_transfer(&after, &target).is_empty(), "{}", vector["name"]);
        ran += 1;
    }
    assert_eq!(ran, 11);
}

#[test]
fn members_are_ordered_as_kafka_does() {
    let file = file();
    let vectors: Vec<_> = list(&file["member_order"]).collect();
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let members = list(&vector["in"]).map(|member| MemberSubscription {
            id: text(&member[0]),
            instance_id: member[1].as_str().map(str::to_owned),
            ..MemberSubscription::default()
        });
        let input = Subscriptions::new(Vec::new(), members.collect());
        let order: Vec<_> = input.static_first().iter().map(|&index| input.members()[index].id.clone()).collect();
        assert_eq!(order, list(&vector["out"]).map(text).collect::<Vec<_>>());
    }
}

//! What holds for any group: everything is given, once, to subscribers; evenly; moving little; the
//! same for the same members in any order. And what must not confuse: claims that can't be true.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::{can_improve, equal, member, settled, topic, topics};
use crate::assignor::{Assignment, Assignor, MemberSubscription, Range, RoundRobin, Sticky, Subscriptions};

const ALL: [&dyn Assignor; 3] = [&Range, &RoundRobin, &Sticky];

/// A group of members in the order of their ids, of several generations that contradict each other.
pub(super) fn group(
    most_topics: usize,
    most_members: usize,
    most_partitions: u32,
) -> impl Strategy<Value = Subscriptions> {
    let partitions = vec(0..=most_partitions, 1..=most_topics);
    partitions.prop_flat_map(move |partitions| {
        let count = partitions.len();
        let subscribed = subsequence((0..count).collect::<Vec<_>>(), 0..=count);
        let owned = vec((0..count, 0..most_partitions + 2), 0..2 * most_partitions as usize);
        let member = (subscribed, owned, option::of(0..3_u32), option::of("[a-c]{1,2}"));
        (vec(member, 1..=most_members), any::<bool>()).prop_map(move |(members, alike)| {
            let common = members[0].0.clone();
            let members = members.into_iter().zip(0..).map(|((topics, owned, generation, instance_id), nth)| {
                let topics = if alike { common.clone() } else { topics };
                MemberSubscription { id: format!("m{nth:03}"), instance_id, topics, owned, generation }
            });
            Subscriptions::new(topics(&partitions), members.collect())
        })
    })
}

fn loads(assignment: &Assignment) -> Vec<usize> {
    assignment.iter().map(Vec::len).collect()
}

/// How many partitions of a member another has now.
fn lost(input: &Subscriptions, assignment: &Assignment, of: usize) -> usize {
    input.members()[of].owned.iter().filter(|partition| !assignment[of].contains(partition)).count()
}

fn spread(loads: &[usize]) -> usize {
    loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_given_once_to_subscribers(input in group(6, 9, 12)) {
        for assignor in ALL {
            let assignment = assignor.assign(&input);
            prop_assert_eq!(input.check(&assignment), Ok(()), "{}", assignor.name());
            prop_assert!(assignment.iter().all(|list| list.is_sorted()), "{}", assignor.name());
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter(input in group(6, 9, 12), by in any::<u64>()) {
        let members = input.members();
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_by_key(|&index| (index as u64 + 1).wrapping_mul(by | 1));
        let other = order.iter().map(|&index| members[index].clone());
        let other = Subscriptions::new(input.topics().to_vec(), other.collect());
        for assignor in ALL {
            let assignment = assignor.assign(&input);
            let expected: Assignment = order.iter().map(|&index| assignment[index].clone()).collect();
            prop_assert_eq!(assignor.assign(&other), expected, "{}", assignor.name());
        }
    }

    #[test]
    fn loads_are_even(input in group(6, 9, 12)) {
        let sticky = Sticky.assign(&input);
        prop_assert!(!can_improve(&input, &sticky));
        if equal(&input) {
            prop_assert!(spread(&loads(&sticky)) <= 1);
            prop_assert!(spread(&loads(&RoundRobin.assign(&input))) <= 1);
        }
        let range = Range.assign(&input);
        for topic in 0..input.topics().len() {
            let of_topic = |index: usize| range[index].iter().filter(|partition| partition.0 == topic).count();
            let subscribers = (0..range.len()).filter(|&index| input.members()[index].topics.contains(&topic));
            prop_assert!(spread(&subscribers.map(of_topic).collect::<Vec<_>>()) <= 1);
        }
    }

    #[test]
    fn what_is_settled_stays(input in group(6, 9, 12)) {
        let assignment = Sticky.assign(&input);
        prop_assert_eq!(Sticky.assign(&settled(&input, &assignment)), assignment);
    }

    #[test]
    fn a_leavers_partitions_move_and_no_others(input in group(6, 9, 12), leaver in any::<prop::sample::Index>()) {
        let settled = settled(&input, &Sticky.assign(&input));
        let mut members = settled.members().to_vec();
        members.remove(leaver.index(members.len()));
        let left = Subscriptions::new(settled.topics().to_vec(), members);
        prop_assume!(equal(&settled));
        let assignment = Sticky.assign(&left);
        for index in 0..left.members().len() {
            prop_assert_eq!(lost(&left, &assignment, index), 0);
        }
    }

    #[test]
    fn a_joiner_takes_no_more_than_its_share(input in group(6, 9, 12)) {
        prop_assume!(equal(&input));
        let settled = settled(&input, &Sticky.assign(&input));
        let joiner = MemberSubscription { id: "m0005x".into(), owned: Vec::new(), ..settled.members()[0].clone() };
        let members = settled.members().iter().cloned().chain([joiner]);
        let joined = Subscriptions::new(settled.topics().to_vec(), members.collect());
        let assignment = Sticky.assign(&joined);
        let moved: usize = (0..settled.members().len()).map(|index| lost(&joined, &assignment, index)).sum();
        prop_assert_eq!(moved, assignment[settled.members().len()].len());
        prop_assert!(spread(&loads(&assignment)) <= 1);
    }

    #[test]
    fn claims_of_an_older_generation_do_not_count(input in group(6, 9, 12)) {
        // Everyone settled in a new generation, but for one who still claims all it ever had.
        let now = Sticky.assign(&input);
        let settled = settled(&input, &now);
        let stale = MemberSubscription {
            id: "stale".into(),
            owned: now.iter().flatten().copied().collect(),
            generation: Some(3),
            ..MemberSubscription::default()
        };
        let members = settled.members().iter().cloned().chain([stale]);
        let with_stale = Subscriptions::new(settled.topics().to_vec(), members.collect());
        let mut expected = now;
        expected.push(Vec::new());
        prop_assert_eq!(Sticky.assign(&with_stale), expected);
    }
}

fn owning(id: &str, topics: &[usize], owned: &[(usize, u32)], generation: Option<u32>) -> MemberSubscription {
    MemberSubscription { owned: owned.into(), generation, ..member(id, topics) }
}

#[test]
fn nobody_and_nothing() {
    for assignor in ALL {
        let none = Subscriptions::new(topics(&[3]), Vec::new());
        assert_eq!(none.topics(), []);
        assert_eq!(assignor.assign(&none), Assignment::new());
        let idle = Subscriptions::new(topics(&[3]), vec![member("a", &[]), member("b", &[])]);
        assert_eq!(assignor.assign(&idle), [[], []]);
        let empty = Subscriptions::new(topics(&[0, 0]), vec![member("a", &[0]), member("b", &[0, 1])]);
        assert_eq!(assignor.assign(&empty), [[], []]);
        let one_idle = Subscriptions::new(topics(&[2]), vec![member("a", &[]), member("b", &[0])]);
        assert_eq!(assignor.assign(&one_idle), [vec![], vec![(0, 0), (0, 1)]]);
    }
}

#[test]
fn what_can_not_be_is_left_out_of_the_input() {
    let topics = vec![topic("b", 2), topic("nobody's", 9), topic("a", 1)];
    let owned = vec![(0, 1), (0, 1), (0, 2), (0, u32::MAX), (1, 0), (2, 0), (3, 0), (usize::MAX, 0)];
    let members = vec![owning("m", &[2, 0, 2, 3, usize::MAX], &owned, Some(1))];
    let input = Subscriptions::new(topics, members);
    assert_eq!(input.topics(), [topic("a", 1), topic("b", 2)]);
    assert_eq!(input.members(), [owning("m", &[0, 1], &[(0, 0), (1, 1)], Some(1))]);
}

#[test]
fn strings_are_ordered_as_java_does() {
    // U+1F600 is a pair of surrogates in UTF-16, which sorts below U+FF5E; in UTF-8 it sorts above.
    let (high, beyond) = ("\u{ff5e}", "\u{1f600}");
    assert!(high < beyond);
    let input = Subscriptions::new(topics(&[3]), vec![member(high, &[0]), member(beyond, &[0])]);
    for assignor in ALL {
        assert_eq!(loads(&assignor.assign(&input)), [1, 2], "{}", assignor.name());
    }
    let named = Subscriptions::new(vec![topic(high, 1), topic(beyond, 1)], vec![member("a", &[0, 1])]);
    assert_eq!(named.topics(), [topic(beyond, 1), topic(high, 1)]);
}

#[test]
fn static_members_come_first_but_not_for_sticky() {
    let fixed = MemberSubscription { instance_id: Some("z".into()), ..member("b", &[0]) };
    let input = Subscriptions::new(topics(&[1]), vec![member("a", &[0]), fixed]);
    assert_eq!(loads(&Range.assign(&input)), [0, 1]);
    assert_eq!(loads(&RoundRobin.assign(&input)), [0, 1]);
    assert_eq!(loads(&Sticky.assign(&input)), [1, 0]);
}

#[test]
fn contradicting_claims() {
    let sticky = |claims: [Option<u32>; 3]| {
        let members = ["a", "b", "c"].into_iter().zip(claims);
        let owned = [(0, 0), (0, 1), (0, 2)];
        let members = members.map(|(id, generation)| owning(id, &[0], &owned, generation));
        Sticky.assign(&Subscriptions::new(topics(&[3]), members.collect()))
    };
    // The newest keeps the first of its three; the others are free, and dealt in the order of ids.
    assert_eq!(sticky([Some(1), Some(1), Some(2)]), [[(0, 1)], [(0, 2)], [(0, 0)]]);
    assert_eq!(sticky([Some(2), Some(1), None]), [[(0, 0)], [(0, 1)], [(0, 2)]]);
    assert_eq!(sticky([None, Some(0), None]), [[(0, 1)], [(0, 0)], [(0, 2)]]);
    // Two of the same generation: nobody's.
    for same in [None, Some(0), Some(7)] {
        assert_eq!(sticky([same; 3]), [[(0, 0)], [(0, 1)], [(0, 2)]]);
    }
}

#[test]
fn a_partition_goes_back_to_who_had_it_in_an_older_generation() {
    // "a" holds all and must give up some. 0 goes to "b"; 1 would go to "c", which has least, had "b"
    // not had it before.
    let all = [(0, 0), (0, 1), (0, 2), (0, 3)];
    let members = vec![
        owning("a", &[0], &all, Some(5)),
        owning("b", &[0, 1], &[(0, 1)], Some(4)),
        owning("c", &[0], &[], Some(5)),
    ];
    let assignment = Sticky.assign(&Subscriptions::new(topics(&[4, 0]), members));
    assert_eq!(assignment, [vec![(0, 3)], vec![(0, 0), (0, 1)], vec![(0, 2)]]);
}

#[test]
fn what_is_new_moves_rather_than_what_is_held() {
    // Both partitions of topic 0 come to "a", then topic 1 makes it too many; "a" owned only the first.
    let own: Vec<_> = (0..10).map(|partition| (3, partition)).collect();
    let members = vec![
        owning("a", &[0, 1], &[(0, 0)], Some(1)),
        owning("b", &[0, 2], &[(2, 0)], Some(1)),
        owning("c", &[1, 3], &own, Some(1)),
    ];
    let assignment = Sticky.assign(&Subscriptions::new(topics(&[2, 2, 1, 10]), members));
    assert_eq!(assignment[..2], [[(0, 0), (1, 0), (1, 1)].to_vec(), [(0, 1), (2, 0)].to_vec()]);
}

#[test]
fn members_beyond_the_partitions_are_idle() {
    let members: Vec<_> = (0..5).map(|nth| member(&format!("m{nth}"), &[0])).collect();
    let input = Subscriptions::new(topics(&[3]), members);
    for assignor in ALL {
        assert_eq!(loads(&assignor.assign(&input)), [1, 1, 1, 0, 0], "{}", assignor.name());
    }
}

#[test]
fn a_wrong_assignment_is_told_by_its_first_mistake() {
    let input = Subscriptions::new(topics(&[2, 1]), vec![member("a", &[0]), member("b", &[0, 1])]);
    let says = |assignment: Assignment, expected: &str| {
        let error = input.check(&assignment).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    assert_eq!(input.check(&[vec![(0, 1)], vec![(1, 0), (0, 0)]]), Ok(()));
    says(vec![], "0 lists for 2 members");
    says(vec![vec![(0, 0), (0, 2)], vec![]], "member \"a\" gets (0, 2), which doesn't exist");
    says(vec![vec![(2, 0)], vec![]], "member \"a\" gets (2, 0), which doesn't exist");
    says(vec![vec![(1, 0)], vec![]], "partition 0 of \"t0001\", which it doesn't subscribe to");
    says(vec![vec![(0, 0)], vec![(0, 0)]], "partition 0 of \"t0000\" is given twice");
    says(vec![vec![(0, 0)], vec![(1, 0)]], "nobody gets partition 1 of \"t0000\"");
    says(vec![vec![(0, 0), (0, 1)], vec![]], "nobody gets partition 0 of \"t0001\"");
}

/// Members of a long chain share each topic with one neighbour only, so that loads have to go from
/// one to the next: the slowest there is.
#[test]
fn a_chain_of_subscriptions_becomes_even() {
    let count = 200;
    let partitions = vec![20; count];
    let members = (0..count).map(|nth| {
        let topics = [nth, (nth + 1) % count];
        let owned =
            if nth % 2 == 0 { (0..20).flat_map(|p| [(topics[0], p), (topics[1], p)]).collect() } else { vec![] };
        owning(&format!("m{nth:03}"), &topics, &owned, Some(1))
    });
    let input = Subscriptions::new(topics(&partitions), members.collect());
    let assignment = Sticky.assign(&input);
    assert_eq!(input.check(&assignment), Ok(()));
    assert!(!can_improve(&input, &assignment));
}

//! Assignors: 600 partitions among 100 members, as after a join; a million among 2,000, anew and with
//! one more member. *unequal*: each member subscribes to half of the topics, not all to the same.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use thalweg::assignor::{Assignor, MemberSubscription, Range, RoundRobin, Sticky, Subscriptions, TopicPartitions};

/// Topics, partitions of each, members.
const SIZES: [(usize, u32, usize); 2] = [(6, 100, 100), (500, 2_000, 2_000)];

pub(crate) fn bench(criterion: &mut Criterion) {
    for (topics, partitions, members) in SIZES {
        let total = topics * partitions as usize;
        let mut group = criterion.benchmark_group(format!("assign/{total} to {members}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        for unequal in [false, true] {
            let kind = if unequal { "unequal" } else { "equal" };
            let anew = group_of(topics, partitions, members, unequal);
            for assignor in [&Range as &dyn Assignor, &RoundRobin, &Sticky] {
                let name = BenchmarkId::new(assignor.name(), format!("{kind}, anew"));
                group.bench_function(name, |bencher| {
                    bencher.iter_with_large_drop(|| assignor.assign(&anew));
                });
            }
            let joined = joined(&anew);
            let name = BenchmarkId::new("sticky", format!("{kind}, one joins"));
            group.bench_function(name, |bencher| {
                bencher.iter_with_large_drop(|| Sticky.assign(&joined));
            });
        }
    }
}

fn group_of(topics: usize, partitions: u32, members: usize, unequal: bool) -> Subscriptions {
    let subscribes = |member: usize, topic: usize| !unequal || (member * 7 + topic * 13) % 30 < 15;
    let members = (0..members).map(|member| MemberSubscription {
        id: format!("member-{member:04}"),
        topics: (0..topics).filter(|&topic| subscribes(member, topic)).collect(),
        ..MemberSubscription::default()
    });
    let topics = (0..topics).map(|topic| TopicPartitions { name: format!("topic-{topic:03}"), partitions });
    Subscriptions::new(topics.collect(), members.collect())
}

/// The same group, settled, and one more member.
fn joined(input: &Subscriptions) -> Subscriptions {
    let assignment = Sticky.assign(input);
    let members = input.members().iter().zip(assignment);
    let members = members.map(|(member, owned)| MemberSubscription { owned, generation: Some(1), ..member.clone() });
    let joiner = MemberSubscription { id: "member-0000x".into(), ..input.members()[0].clone() };
    Subscriptions::new(input.topics().to_vec(), members.chain([joiner]).collect())
}

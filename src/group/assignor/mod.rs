//! STUB until the real one is copied in.
#![allow(missing_docs)]
pub trait Assignor: Send + Sync {
    fn name(&self) -> &str;
    fn assign(&self, input: &Subscriptions) -> Vec<Vec<(usize, u32)>>;
}
pub struct Subscriptions { pub topics: Vec<TopicPartitions>, pub members: Vec<MemberSubscription> }
pub struct TopicPartitions { pub name: String, pub partitions: u32 }
pub struct MemberSubscription { pub id: String, pub instance_id: Option<String>, pub topics: Vec<usize>, pub owned: Vec<(usize, u32)>, pub generation: Option<i64> }
pub struct Sticky;
impl Assignor for Sticky {
    fn name(&self) -> &str { "sticky" }
    fn assign(&self, input: &Subscriptions) -> Vec<Vec<(usize, u32)>> {
        let n = input.members.len();
        let mut out = vec![Vec::new(); n];
        let mut at = 0;
        for (t, topic) in input.topics.iter().enumerate() { for p in 0..topic.partitions { out[at % n].push((t, p)); at += 1; } }
        out
    }
}
pub(crate) fn check(_: &Subscriptions, _: &[Vec<(usize, u32)>]) -> crate::error::Result<()> { Ok(()) }

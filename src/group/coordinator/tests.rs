//! The coordinator by itself: events and times go in, who holds what comes out.

use super::*;
use crate::group::assignor::{Range, RoundRobin};

const SESSION: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn table(topics: &[(&str, u32, u32)]) -> Arc<TopicTable> {
    Arc::new(TopicTable::new(topics.iter().map(|&(name, id, count)| (name.to_owned(), TopicId(id), count))))
}

fn group(partitions: u32) -> Coordinator {
    Coordinator::new("g", 3, 7, table(&[("t", 1, partitions)]))
}

fn wants(topics: &[&str]) -> Join {
    Join {
        client_id: "c".into(),
        instance_id: None,
        subscription: Subscription::Topics(topics.iter().map(|&topic| topic.to_owned()).collect()),
        assignor: Arc::new(Sticky),
        assignor_name: "sticky".into(),
        session_timeout: Some(SESSION),
        max_poll_interval: POLL,
    }
}

fn join(group: &mut Coordinator, now: u64) -> String {
    group.join(wants(&["t"]), at(now)).unwrap().0
}

/// A poll as a well-behaved member does it: takes its changes, gives back at once.
fn poll(group: &mut Coordinator, id: &str, now: u64) -> Changes {
    group.tick(at(now));
    group.heartbeat(id, at(now), Sign::Poll).unwrap();
    let changes = group.changes(id).unwrap();
    group.release(id, &changes.revoked).unwrap();
    changes
}

fn held(group: &Coordinator, id: &str) -> Vec<u32> {
    let view = group.view();
    let member = view.members.iter().find(|member| member.id == id).unwrap();
    member.held.iter().map(|held| held.1).collect()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind().clone()
}

#[test]
fn g1_a_partition_that_moves_is_given_back_before_the_next_gets_it() {
    let mut group = group(4);
    let a = join(&mut group, 0);
    assert_eq!(poll(&mut group, &a, 0).granted.len(), 4);
    let (b, effects) = group.join(wants(&["t"]), at(1)).unwrap();
    // Nothing for b while a holds everything; a is told to look up, also out of a long poll.
    assert!(effects.contains(&Effect::Wake(a.clone())), "{effects:?}");
    assert_eq!(poll(&mut group, &b, 1).granted, []);
    assert!(!group.view().stable);
    assert!(group.has_changes(&a));
    let changes = group.changes(&a).unwrap();
    assert!(group.has_changes(&a), "it was told, but has not given back yet");
    assert_eq!(changes.revoked.len(), 2);
    assert_eq!(held(&group, &b), [] as [u32; 0]);
    let kept: Vec<_> =
        (0..4).map(|partition| (TopicId(1), partition)).filter(|kept| !changes.revoked.contains(kept)).collect();
    // Until it is given back a may commit for it, b may not.
    let may = |group: &Coordinator, id: &str, of: &[TopicPartition]| {
        let mut may = group.may_commit(id, changes.generation).unwrap();
        of.iter().map(|&partition| may(partition)).collect::<Vec<_>>()
    };
    assert_eq!(may(&group, &a, &changes.revoked), [true, true]);
    assert_eq!(may(&group, &b, &changes.revoked), [false, false]);
    let effects = group.release(&a, &changes.revoked).unwrap();
    assert!(effects.contains(&Effect::Wake(b.clone())) && effects.contains(&Effect::Store), "{effects:?}");
    assert!(!group.has_changes(&a));
    assert_eq!(poll(&mut group, &b, 2).granted, changes.revoked);
    assert!(group.view().stable);
    assert_eq!(may(&group, &a, &changes.revoked), [false, false]);
    assert_eq!(may(&group, &a, &kept), [true, true]);
}

#[test]
fn g3_who_dies_or_stalls_is_replaced() {
    let mut group = group(2);
    let (a, b) = (join(&mut group, 0), join(&mut group, 0));
    poll(&mut group, &a, 0);
    poll(&mut group, &b, 0);
    assert_eq!((held(&group, &a).len(), held(&group, &b).len()), (1, 1));
    // a calls now and then but never polls; b polls.
    for now in 1..30 {
        group.heartbeat(&a, at(now), Sign::Call).unwrap();
        poll(&mut group, &b, now);
    }
    assert_eq!(group.next_deadline(), Some(at(30)));
    assert_eq!(group.tick(at(29)), []);
    let effects = group.tick(at(30));
    assert!(effects.contains(&Effect::Gone(a.clone(), Departure::Stalled)), "{effects:?}");
    assert_eq!(held(&group, &b), [0, 1]);
    let error = kind(group.may_commit(&a, 1));
    assert!(matches!(error, ErrorKind::UnknownMember { reason, .. } if reason.contains("poll")), "{error}");
    // b sits in a poll until 100: alive all the while, and ten seconds more.
    group.heartbeat(&b, at(100), Sign::Poll).unwrap();
    assert_eq!(group.tick(at(109)), []);
    let effects = group.tick(at(110));
    assert!(effects.contains(&Effect::Gone(b.clone(), Departure::TimedOut)) && effects.contains(&Effect::Empty));
    assert!(matches!(kind(group.heartbeat(&b, at(111), Sign::Poll)), ErrorKind::UnknownMember { .. }));
    assert_eq!(group.next_deadline(), None);
}

#[test]
fn g3_who_leaves_is_replaced_at_once_and_others_keep_what_they_have() {
    let mut group = group(9);
    let ids = [join(&mut group, 0), join(&mut group, 0), join(&mut group, 0)];
    for _ in 0..3 {
        ids.iter().for_each(|id| drop(poll(&mut group, id, 0)));
    }
    let before: Vec<_> = ids.iter().map(|id| held(&group, id)).collect();
    assert!(before.iter().all(|held| held.len() == 3));
    let effects = group.leave(&ids[1], at(1));
    assert!(effects.contains(&Effect::Gone(ids[1].clone(), Departure::Left)));
    for at in [0, 2] {
        let after = held(&group, &ids[at]);
        assert!(before[at].iter().all(|partition| after.contains(partition)), "{before:?} {after:?}");
        assert!(poll(&mut group, &ids[at], 1).revoked.is_empty());
    }
    assert_eq!(held(&group, &ids[0]).len() + held(&group, &ids[2]).len(), 9);
}

#[test]
fn g4_generations_rise_and_an_older_one_may_not_commit() {
    let mut group = group(2);
    assert_eq!(group.generation(), 7);
    let a = join(&mut group, 0);
    let first = poll(&mut group, &a, 0).generation;
    assert!(first > 7);
    let b = join(&mut group, 1);
    // a hasn't heard of the new one: its commits count in the old.
    assert!(group.may_commit(&a, first).unwrap()((TopicId(1), 0)));
    let second = poll(&mut group, &a, 1).generation;
    assert!(second > first);
    let error = kind(group.may_commit(&a, first));
    assert_eq!(error, ErrorKind::IllegalGeneration { group: "g".into(), generation: first, current: second });
    assert_ne!(a, b);
    group.leave(&a, at(2));
    group.leave(&b, at(2));
    let c = join(&mut group, 3);
    assert!(c != a && c != b && poll(&mut group, &c, 3).generation > second);
}

#[test]
fn g6_who_is_idle_takes_over() {
    let mut group = group(1);
    let a = join(&mut group, 0);
    poll(&mut group, &a, 0);
    let (b, effects) = group.join(wants(&["t"]), at(0)).unwrap();
    assert!(effects.contains(&Effect::Idle(b.clone())), "{effects:?}");
    poll(&mut group, &b, 0);
    assert_eq!(held(&group, &a), [0]);
    group.leave(&a, at(1));
    assert_eq!(poll(&mut group, &b, 1).granted, [(TopicId(1), 0)]);
}

#[test]
fn an_instance_keeps_its_place_while_it_is_away() {
    let mut group = group(2);
    let named = |name: &str| Join { instance_id: Some(name.into()), ..wants(&["t"]) };
    let (a, _) = group.join(named("a"), at(0)).unwrap();
    let (b, _) = group.join(named("b"), at(0)).unwrap();
    for _ in 0..2 {
        poll(&mut group, &a, 0);
        poll(&mut group, &b, 0);
    }
    let (mine, generation) = (held(&group, &a), group.generation());
    assert_eq!(group.leave(&a, at(5)), []);
    group.heartbeat(&b, at(14), Sign::Poll).unwrap();
    assert_eq!(group.tick(at(14)), []);
    let (again, effects) = group.join(named("a"), at(14)).unwrap();
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Rebalanced(..))), "{effects:?}");
    assert_eq!((held(&group, &again), group.generation()), (mine.clone(), generation));
    assert_eq!(poll(&mut group, &again, 14).granted.len(), mine.len(), "it begins to read them anew");
    // Away for too long: the other takes over.
    group.leave(&again, at(15));
    group.heartbeat(&b, at(24), Sign::Poll).unwrap();
    let effects = group.tick(at(25));
    assert!(effects.contains(&Effect::Gone(again, Departure::TimedOut)), "{effects:?}");
    assert_eq!(held(&group, &b), [0, 1]);
}

#[test]
fn of_two_with_one_instance_id_the_older_is_fenced() {
    let mut group = group(2);
    let named = Join { instance_id: Some("a".into()), ..wants(&["t"]) };
    let (old, _) = group.join(named.clone(), at(0)).unwrap();
    let generation = poll(&mut group, &old, 0).generation;
    let (new, effects) = group.join(named, at(1)).unwrap();
    assert!(
        effects.contains(&Effect::Gone(old.clone(), Departure::Fenced)) && effects.contains(&Effect::Wake(old.clone()))
    );
    let fenced = ErrorKind::FencedInstance { group: "g".into(), member: old.clone() };
    assert_eq!(kind(group.heartbeat(&old, at(1), Sign::Poll)), fenced);
    assert_eq!(kind(group.may_commit(&old, generation)), fenced);
    assert_eq!(held(&group, &new), [0, 1]);
    // Its handle goes: that is the new one's business no more.
    assert_eq!(group.leave(&old, at(2)), []);
    assert_eq!(held(&group, &new), [0, 1]);
}

#[test]
fn topics_come_grow_and_go() {
    let mut group = Coordinator::new("g", 1, 0, table(&[("a-1", 1, 1), ("b", 2, 1)]));
    let by_pattern = Join { subscription: Subscription::pattern("a-.*").unwrap(), ..wants(&[]) };
    let (a, _) = group.join(by_pattern.clone(), at(0)).unwrap();
    assert_eq!(poll(&mut group, &a, 0).granted, [(TopicId(1), 0)]);
    let generation = group.generation();
    assert_eq!(
        group.set_topics(table(&[("a-1", 1, 1), ("b", 2, 9)]), at(0)),
        [],
        "what nobody wants is nobody's concern"
    );
    assert_eq!(group.generation(), generation);
    let effects = group.set_topics(table(&[("a-1", 1, 2), ("a-2", 3, 1), ("b", 2, 9), ("xa-1", 4, 1)]), at(0));
    assert!(effects.contains(&Effect::Wake(a.clone())), "{effects:?}");
    assert_eq!(poll(&mut group, &a, 0).granted, [(TopicId(1), 1), (TopicId(3), 0)]);
    // Made again under the same name: what was held is lost, what is new is granted.
    let effects = group.set_topics(table(&[("a-1", 5, 1), ("a-2", 3, 1)]), at(0));
    assert!(effects.contains(&Effect::Wake(a.clone())), "{effects:?}");
    let changes = poll(&mut group, &a, 0);
    assert_eq!((changes.lost, changes.revoked), (vec![(TopicId(1), 0), (TopicId(1), 1)], vec![]));
    assert_eq!(changes.granted, [(TopicId(5), 0)]);
    assert!(Subscription::pattern("a(").is_err());
}

#[test]
fn members_agree_on_the_assignor() {
    let mut group = group(4);
    let (a, _) =
        group.join(Join { assignor: Arc::new(Range), assignor_name: "range".into(), ..wants(&["t"]) }, at(0)).unwrap();
    let error = kind(group.join(wants(&["t"]), at(0)));
    assert!(matches!(error, ErrorKind::InvalidArgument { .. }), "{error}");
    assert_eq!(group.view().assignor, "range");
    group.leave(&a, at(1));
    group
        .join(Join { assignor: Arc::new(RoundRobin), assignor_name: "round-robin".into(), ..wants(&["t"]) }, at(1))
        .unwrap();
    assert_eq!(group.view().assignor, "round-robin");
}

#[test]
fn who_was_late_does_not_fence_the_one_who_took_its_instance_id_meanwhile() {
    let mut group = group(2);
    let named = Join { instance_id: Some("a".into()), ..wants(&["t"]) };
    let (old, _) = group.join(named.clone(), at(0)).unwrap();
    poll(&mut group, &old, 0);
    let (new, _) = group.join(named, at(20)).unwrap();
    poll(&mut group, &new, 20);
    let fenced = ErrorKind::FencedInstance { group: "g".into(), member: old.clone() };
    assert_eq!(kind(group.heartbeat(&old, at(20), Sign::Poll)), fenced);
    // That one gone too, the place is free.
    group.tick(at(40));
    assert!(matches!(kind(group.heartbeat(&old, at(40), Sign::Poll)), ErrorKind::UnknownMember { .. }));
}

/// Gives everything to everyone.
struct Greedy;

impl Assignor for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }

    fn assign(&self, input: &Subscriptions) -> Vec<Vec<(usize, u32)>> {
        input.members().iter().map(|_| vec![(0, 0), (0, 1)]).collect()
    }
}

#[test]
fn an_assignment_that_can_not_be_is_replaced() {
    let mut group = group(2);
    let greedy = Join { assignor: Arc::new(Greedy), assignor_name: "greedy".into(), ..wants(&["t"]) };
    let (a, effects) = group.join(greedy.clone(), at(0)).unwrap();
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::AssignorFailed(_))));
    let (b, effects) = group.join(greedy, at(0)).unwrap();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::AssignorFailed(_))), "{effects:?}");
    poll(&mut group, &a, 0);
    poll(&mut group, &b, 0);
    assert_eq!((held(&group, &a).len(), held(&group, &b).len()), (1, 1));
}

#[test]
fn without_a_session_time_out_only_the_poll_interval_counts() {
    let mut group = group(1);
    let patient = Join { session_timeout: None, ..wants(&["t"]) };
    let (a, _) = group.join(patient.clone(), at(0)).unwrap();
    poll(&mut group, &a, 0);
    assert_eq!(group.next_deadline(), Some(at(30)));
    assert_eq!(group.tick(at(29)), []);
    let effects = group.tick(at(30));
    assert!(effects.contains(&Effect::Gone(a, Departure::Stalled)), "{effects:?}");
    // A place that is kept for an instance is kept as long.
    let named = Join { instance_id: Some("i".into()), ..patient };
    let (b, _) = group.join(named, at(100)).unwrap();
    assert_eq!(group.leave(&b, at(110)), []);
    assert_eq!((group.next_deadline(), group.tick(at(139))), (Some(at(140)), vec![]));
    assert!(group.tick(at(140)).contains(&Effect::Gone(b, Departure::TimedOut)));
}

#[test]
fn a_future_must_show_that_somebody_polls_it() {
    let mut group = group(1);
    let a = join(&mut group, 0);
    poll(&mut group, &a, 0);
    // Woken at half of the session time-out; polled again, it waits on.
    for now in [0, 5, 10, 15] {
        group.heartbeat(&a, at(now), Sign::Awaited).unwrap();
        assert_eq!((group.tick(at(now + 4)), group.next_deadline()), (vec![], Some(at(now + 5))));
        assert_eq!(group.tick(at(now + 5)), [Effect::Wake(a.clone())]);
        assert_eq!((group.tick(at(now + 5)), group.next_deadline()), (vec![], Some(at(now + 10))), "asked once");
    }
    assert!(group.tick(at(25)).contains(&Effect::Gone(a.clone(), Departure::TimedOut)));
}

/// Panics as long as it is told to.
#[derive(Default)]
struct Fragile(std::sync::atomic::AtomicBool);

impl Fragile {
    fn breaks(&self, breaks: bool) {
        self.0.store(breaks, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Assignor for Arc<Fragile> {
    fn name(&self) -> &str {
        "fragile"
    }

    fn assign(&self, input: &Subscriptions) -> Vec<Vec<(usize, u32)>> {
        assert!(!self.0.load(std::sync::atomic::Ordering::SeqCst), "it broke");
        Sticky.assign(input)
    }
}

#[test]
fn an_assignor_that_panics_moves_nothing_and_is_called_again() {
    let fragile = Arc::<Fragile>::default();
    let mut group = group(4);
    let wants = Join {
        assignor: Arc::new(fragile.clone()),
        assignor_name: "fragile".into(),
        session_timeout: None,
        ..wants(&["t"])
    };
    let (a, _) = group.join(wants.clone(), at(0)).unwrap();
    poll(&mut group, &a, 0);
    let generation = group.generation();
    fragile.breaks(true);
    let (b, effects) = group.join(wants, at(1)).unwrap();
    let told = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::AssignorFailed(why) if why.contains("it broke")))
    };
    assert!(told(&effects), "{effects:?}");
    assert_eq!((poll(&mut group, &a, 1).revoked, poll(&mut group, &b, 1).granted), (vec![], vec![]));
    assert_eq!((held(&group, &a).len(), group.generation()), (4, generation));
    let view = group.view();
    assert!(!view.stable && view.assignor_failure.unwrap().contains("it broke"));
    // Called again after one second, then two.
    assert_eq!((group.next_deadline(), group.tick(at(1))), (Some(at(2)), vec![]));
    assert!(told(&group.tick(at(2))));
    assert_eq!(group.next_deadline(), Some(at(4)));
    // A member that goes takes nobody along: what it had waits for the assignor.
    let effects = group.leave(&a, at(3));
    assert!(told(&effects) && effects.contains(&Effect::Gone(a, Departure::Left)), "{effects:?}");
    assert_eq!(held(&group, &b), [] as [u32; 0]);
    assert_eq!(group.next_deadline(), Some(at(7)));
    fragile.breaks(false);
    assert!(group.tick(at(7)).contains(&Effect::Rebalanced(generation + 1, 1)));
    assert_eq!(poll(&mut group, &b, 7).granted.len(), 4);
    let view = group.view();
    assert!(view.stable && view.assignor_failure.is_none());
    // With nobody left there is nothing to ask.
    fragile.breaks(true);
    let effects = group.leave(&b, at(8));
    assert!(!told(&effects) && group.next_deadline().is_none(), "{effects:?}");
}

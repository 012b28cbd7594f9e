//! Members come, are heard of, and go.

use std::time::Duration;

use super::{Coordinator, Departure, Effect, Join, Member, REMEMBERED, Sign};
use crate::error::{Error, ErrorKind, Result};

impl Member {
    /// Why it is to be removed, if it is.
    fn is_late(&self, now: Duration) -> Option<Departure> {
        let Join { session_timeout, max_poll_interval, .. } = self.join;
        let timed_out = |timeout: Duration| self.heard.saturating_add(timeout) <= now;
        if self.away {
            return timed_out(self.join.place_kept()).then_some(Departure::TimedOut);
        }
        if session_timeout.is_some_and(timed_out) {
            return Some(Departure::TimedOut);
        }
        (self.polled.saturating_add(max_poll_interval) <= now).then_some(Departure::Stalled)
    }

    /// When it is late, if it isn't heard of until then.
    fn deadline(&self) -> Duration {
        if self.away {
            return self.heard.saturating_add(self.join.place_kept());
        }
        let session = self.join.session_timeout.map(|session| self.heard.saturating_add(session));
        let poll = self.polled.saturating_add(self.join.max_poll_interval);
        session.map_or(poll, |session| session.min(poll))
    }
}

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
            self.assignor_name = join.assignor_name.clone();
        } else if self.assignor_name != join.assignor_name {
            let (ours, asked) = (&self.assignor_name, &join.assignor_name);
            let reason =
                format!("group {:?} assigns with {ours:?}, not {asked:?}: all members ask for the same", self.name);
            return Err(Error::invalid(reason));
        }
        self.last_member += 1;
        let id = format!("{}-{}-{:04}", join.client_id, self.epoch, self.last_member);
        let mut member = Member {
            heard: now,
            polled: now,
            ask_at: None,
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
            self.rebalance(now, &mut effects);
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

    /// The member is alive, and will be until `until`.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownMember`] with the reason, [`ErrorKind::FencedInstance`].
    pub(crate) fn heartbeat(&mut self, id: &str, until: Duration, sign: Sign) -> Result<()> {
        let member = self.member_mut(id)?;
        member.heard = until;
        if sign != Sign::Call {
            member.polled = until;
            member.ask_at = (sign == Sign::Awaited).then(|| until.saturating_add(member.join.patience() / 2));
        }
        Ok(())
    }

    /// The member's handle is gone. With an instance id it keeps its place for a while.
    pub(crate) fn leave(&mut self, id: &str, now: Duration) -> Vec<Effect> {
        self.departed.remove(id);
        match self.members.get_mut(id) {
            Some(member) if member.join.instance_id.is_some() => {
                member.away = true;
                (member.heard, member.polled, member.ask_at) = (now, now, None);
                Vec::new()
            }
            Some(_) => self.remove(&[(id.to_owned(), Departure::Left)], now),
            None => Vec::new(),
        }
    }

    /// Removes those who weren't heard of in time, wakes those whose future must show that it is still
    /// polled, and calls an assignor again that panicked.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let gone: Vec<_> =
            self.members.iter().filter_map(|(id, member)| Some((id.clone(), member.is_late(now)?))).collect();
        let mut effects = if gone.is_empty() { Vec::new() } else { self.remove(&gone, now) };
        for (id, member) in &mut self.members {
            if member.ask_at.is_some_and(|at| at <= now) {
                member.ask_at = None;
                effects.push(Effect::Wake(id.clone()));
            }
        }
        if self.assign_again.is_some_and(|(at, _)| at <= now) {
            self.rebalance(now, &mut effects);
        }
        effects
    }

    /// When [`tick`](Coordinator::tick) has something to do next, if nobody is heard of until then.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let late = self.members.values().map(Member::deadline);
        let asked = self.members.values().filter_map(|member| member.ask_at);
        late.chain(asked).chain(self.assign_again.map(|(at, _)| at)).min()
    }

    fn remove(&mut self, gone: &[(String, Departure)], now: Duration) -> Vec<Effect> {
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
        self.rebalance(now, &mut effects);
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

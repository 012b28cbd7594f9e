//! Who of a group reads which partition: members, generations, assignors. Pure: no bytes, no
//! threads, no clock of its own; a member may be a thread of this process or anything else.

pub mod assignor;
mod coordinator;
mod fence;
mod subscription;

pub(crate) use coordinator::{Changes, Coordinator, Departure, Effect, GroupView, Join, Sign};
pub(crate) use fence::{Fence, Positions};
pub(crate) use subscription::{Subscription, TopicTable};

use crate::ids::TopicId;

/// A partition of one life of a topic.
pub(crate) type TopicPartition = (TopicId, u32);

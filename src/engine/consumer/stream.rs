//! A consumer as a `Stream`, for any async runtime.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::{Consumer, InPoll, Polled};
use crate::error::Result;

/// What [`Consumer::stream`] gives: polls without end. It never ends by itself; an error doesn't
/// end it either.
#[derive(Debug)]
pub struct ConsumerStream<'a> {
    polling: InPoll<'a>,
}

impl Consumer {
    /// Polls without end, as a `Stream`. Between two items [`consumer`](ConsumerStream::consumer) gives
    /// the consumer back, to commit.
    pub fn stream(&mut self) -> ConsumerStream<'_> {
        ConsumerStream { polling: InPoll::new(self) }
    }
}

impl ConsumerStream<'_> {
    /// The consumer, between two polls.
    pub fn consumer(&mut self) -> &mut Consumer {
        self.polling.consumer
    }
}

impl Stream for ConsumerStream<'_> {
    type Item = Result<Polled>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Polled>>> {
        self.polling.poll(context).map(Some)
    }
}

//! Single promises, each with the sequence of steps that could break it.

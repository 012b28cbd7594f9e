//! What a machine does to an open engine that no simulated disk does: directories that move, links, strangers'
//! files, forks, files that somebody else shortens. Through the public API, on real files.

mod forked;
mod fresh;
mod links;
mod moving;
mod odd_names;
mod removal;
mod shortened;
mod support;

//! The tutorial in containers: a Docker engine, found, installed or started; the images of `deploy/tutorial`, built; the
//! containers, brought up and watched.

mod base;
mod containers;
mod engine;
mod image;
mod watch;

pub(crate) use self::image::{folder, provide};
pub use self::{
    base::BaseOptions,
    containers::{Containers, MASTER, SLAVE, docker, log_tail},
    engine::Engine,
    image::{NODE_IMAGE, Options, execute},
    watch::{Report, Watch},
};

//! Tier 3: the play itself, as `cargo xtask run --once` gives it.

mod common;

use common::{lb, xtask};
use xtask::{
    lab::{Lab, XdpMode},
    play::{PlayOptions, run},
};

#[test]
#[ignore = "needs root and network namespaces: cargo xtask test"]
fn the_play_succeeds_in_every_mode_and_leaves_nothing() {
    for (xdp, name) in [
        (XdpMode::Auto, &common::named("play")),
        (XdpMode::Native, &common::named("play-native")),
        (XdpMode::Generic, &common::named("play-generic")),
    ] {
        let options = PlayOptions { once: true, name: name.to_owned(), xdp, xtask: Some(xtask().to_owned()) };
        run(&options, &lb()).unwrap_or_else(|error| panic!("{xdp}: {error}"));
        Lab::open(name).expect_err("the lab is gone");
    }
}

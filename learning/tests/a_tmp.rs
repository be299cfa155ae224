#![allow(unreachable_pub, dead_code)]
#[path = "/work/main/learning/src/slides/mod.rs"] mod slides;
#[path = "/work/main/learning/src/dataset/mod.rs"] mod dataset;
#[path = "/work/main/learning/src/tissue/mod.rs"] mod tissue;

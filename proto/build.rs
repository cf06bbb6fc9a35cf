//! Generates the wire types from `v1/*.proto`; nothing else.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=v1");
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".wherry.v1.Chunk")
        // What would be printed is a secret: `convert/content.rs` prints them.
        .skip_debug([".wherry.v1.SecretValue"])
        .compile_protos(&["v1/session.proto"], &["."])
}

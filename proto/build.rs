//! Generates the wire types from `v1/*.proto`; nothing else.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=v1");
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".wherry.v1.Chunk")
        .compile_protos(&["v1/session.proto"], &["."])
}

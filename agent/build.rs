//! Functions with the same machine code become one in release builds: generic code is compiled for each of its types, and
//! much of it comes out the same. Nodes download the program over thin links and keep it in memory.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, wanted: &str| std::env::var(name).is_ok_and(|value| value == wanted);
    // Where the toolchain links with LLD by itself; others' linkers may not know the option.
    if is("TARGET", "x86_64-unknown-linux-gnu") && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}

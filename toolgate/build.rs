fn main() {
    // The migrations are compiled in, and the compiler does not watch the folder by itself.
    println!("cargo:rerun-if-changed=../migrations");
}

"""The native engine: code made from ISA descriptions by LLVM, loaded and run without it."""

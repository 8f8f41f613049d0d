// Compiles the functions that follow for the instruction set named by SLUICE_TARGET, up to
// target_end.h. SwiftPM has no flags per file. Headers of the system must be included before.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#define SLUICE_PRAGMA(text) _Pragma(#text)
#define SLUICE_TARGET_ON(name) \
    SLUICE_PRAGMA(clang attribute push(__attribute__((target(name))), apply_to = function))
SLUICE_TARGET_ON(SLUICE_TARGET)
#else
#define SLUICE_PRAGMA(text) _Pragma(#text)
#define SLUICE_TARGET_ON(name) SLUICE_PRAGMA(GCC target(name))
#pragma GCC push_options
SLUICE_TARGET_ON(SLUICE_TARGET)
#endif

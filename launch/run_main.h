#pragma once

#include <functional>

namespace ferro {

/// Runs the program's body and turns what it throws into a line on standard error and an exit code: Error its
/// own code, std::bad_alloc 71, anything else 70 (docs/exit-codes.md). The only place besides thread entries
/// that catches.
int run_main(const std::function<int()>& body) noexcept;

}  // namespace ferro

#pragma once

namespace ferro {

/// Where tests kill a process. The environment variable FERRO_FAIL_POINT=`<point>:<n>` ends it by SIGKILL the
/// n-th time it passes there; without the variable a call is one comparison. Thread-compatible.
void fail_point(const char* point);

}  // namespace ferro

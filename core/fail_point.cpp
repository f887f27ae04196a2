#include "core/fail_point.h"

#include <signal.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace ferro {
namespace {

/// The point to die at and how often to pass it.
class FailPoint {
 public:
  explicit FailPoint(const char* wanted) {
    if (wanted == nullptr) return;
    const std::string_view text(wanted);
    const std::size_t colon = text.rfind(':');
    point_ = text.substr(0, colon);
    left_ = colon == std::string_view::npos ? 1 : std::atoi(std::string(text.substr(colon + 1)).c_str());
  }
  void pass(std::string_view point) {
    if (point_.empty() || point != point_) return;
    if (--left_ <= 0) ::raise(SIGKILL);
  }

 private:
  std::string point_;
  int left_ = 0;
};

}  // namespace

void fail_point(const char* point) {
  static FailPoint wanted(std::getenv("FERRO_FAIL_POINT"));
  wanted.pass(point);
}

}  // namespace ferro

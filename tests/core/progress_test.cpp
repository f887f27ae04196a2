#include "core/progress.h"

#include <memory>

#include <catch2/catch.hpp>

#include "core/atomic_file.h"
#include "tests/core/scratch_folder.h"

namespace ferro {

TEST_CASE("away from a terminal progress is the first line, one every few seconds, and the last") {
  const testing::ScratchFolder folder;
  ManualClock clock;
  {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::fopen((folder / "out").c_str(), "w"),
                                                              &std::fclose);
    Progress progress("sft", 120, clock, out.get(), 5.0);
    for (int step = 1; step <= 120; ++step) {
      clock.advance(std::chrono::milliseconds(100));
      progress.update(step, step == 120 ? "loss 0.5" : "");
    }
    progress.update(120, "again");
  }
  // 10 steps a second for 12 s: lines at 0.1, 5.1, 10.1 and 12 s.
  CHECK(read_file(folder / "out") ==
        "sft 1/120 | 10 step/s | ETA 0:12\n"
        "sft 51/120 | 10 step/s | ETA 0:07\n"
        "sft 101/120 | 10 step/s | ETA 0:02\n"
        "sft 120/120 | loss 0.5 | 10 step/s | 0:12\n");
}

TEST_CASE("progress without a rate says no rate") {
  const testing::ScratchFolder folder;
  ManualClock clock;
  {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(std::fopen((folder / "out").c_str(), "w"),
                                                              &std::fclose);
    Progress(std::string("eval"), 7200, clock, out.get()).update(0, "starting");
    Progress slow("eval", 7200, clock, out.get());
    clock.advance(std::chrono::seconds(1));
    slow.update(1, "");
  }
  CHECK(read_file(folder / "out") == "eval 0/7200 | starting\neval 1/7200 | 1 step/s | ETA 1:59:59\n");
}

}  // namespace ferro

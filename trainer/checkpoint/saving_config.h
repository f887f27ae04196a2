#pragma once

#include <cstdint>
#include <string>

#include "core/config_visitor.h"

namespace ferro {

/// When a job writes checkpoints and where it begins; top-level keys of both jobs.
struct SavingConfig {
  std::int64_t save_steps = 0;
  std::int64_t save_total_limit = 2;
  std::string resume_from_checkpoint;

  template <class Visitor>
  void visit(Visitor& v) {
    v.field(
        "save_steps", save_steps, {.min = 0},
        "Steps between checkpoints; the last step gets one too. 0: none but when the run is told to stop.");
    v.field("save_total_limit", save_total_limit, {.min = 0},
            "Checkpoints that are kept, the newest; at least 2, because one may be damaged. 0: all.");
    v.field("resume_from_checkpoint", resume_from_checkpoint,
            "true: go on from the newest whole checkpoint in output_dir, or begin where there is none; a "
            "checkpoint's folder: from that one. Empty or false: begin. `--resume` sets it to true.");
  }
  template <class Report>
  void validate_saving(Report&& report) const {
    if (save_total_limit == 1) report("save_total_limit", "must be at least 2, or 0 to keep all");
  }
};

}  // namespace ferro

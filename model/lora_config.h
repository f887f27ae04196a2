#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config_visitor.h"

namespace ferro {

/// Low-rank adapters; names and meaning as in PEFT's LoraConfig.
struct LoraConfig {
  std::int64_t r = 0;
  double alpha = 16;
  double dropout = 0;
  std::vector<std::string> target_modules{"all-linear"};
  std::string adapter_name_or_path;
  bool save_merged = true;

  bool enabled() const { return r > 0 || !adapter_name_or_path.empty(); }
  double scale() const { return alpha / static_cast<double>(r); }

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("r", r, {.min = 0, .max = 4096},
            "Rank. 0: no adapter, all weights of the trained parts are trained. Above: the base is frozen "
            "and only "
            "the adapter is trained. Multiples of 32 waste no memory.");
    v.field("alpha", alpha, {.min = 0.0, .max = 1e6}, "What the adapter adds is scaled by alpha / r.");
    v.field("dropout", dropout, {.min = 0.0, .max = 0.99},
            "Share of the adapter's inputs dropped in training passes; keyed, so that it repeats.");
    v.field(
        "target_modules", target_modules,
        "Linear layers to adapt, by the end of their name (q_proj, mlp.down_proj, ...), in the parts that "
        "`train` names. all-linear: every one but the head.");
    v.field("adapter_name_or_path", adapter_name_or_path,
            "PEFT folder to continue from; its rank, alpha and modules replace the ones here.");
    v.field("save_merged", save_merged,
            "Beside adapter/ (PEFT's layout), save the base with the adapter merged in as model/.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (r > 0 && target_modules.empty()) report("target_modules", "must name a module, or all-linear");
  }
};

}  // namespace ferro

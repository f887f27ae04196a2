#pragma once

#include "core/config_visitor.h"
#include "model/arena.h"

namespace ferro {

/// Which parts of the model are trained; with an adapter, which parts it reaches. A frozen part keeps its
/// bytes and costs neither gradients nor optimizer state.
struct TrainedParts {
  bool vision = true, merger = true, language = true;

  bool contains(ModelPart part) const {
    if (part == ModelPart::kVision) return vision;
    return part == ModelPart::kMerger ? merger : language;
  }
  bool all() const { return vision && merger && language; }

  template <class Visitor>
  void visit(Visitor& v) {
    v.field("vision", vision,
            "Train the vision tower (patch embedding and blocks). false: frozen, no backward through it.");
    v.field("merger", merger, "Train the merger that turns patches into image tokens.");
    v.field("language", language, "Train the language model: embedding, blocks, head.");
  }
  template <class Report>
  void validate(Report&& report) const {
    if (!vision && !merger && !language) report("language", "every part is frozen: nothing is left to train");
  }
};

}  // namespace ferro

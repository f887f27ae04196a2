#include "model/model_folder.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "core/error.h"
#include "model/checkpoint_check.h"

namespace ferro {
namespace {

/// Piece by piece: what of the file has been copied is not needed again.
void import_tensor(const CheckpointReader& checkpoint, const ParameterInfo& info, ParameterArena& arena) {
  constexpr std::int64_t kPieceBytes = std::int64_t{1} << 24, kPanelRows = 32;
  const at::Tensor tensor = checkpoint.tensor(info.name);
  const std::int64_t rows = tensor.size(0),
                     row_bytes = std::max<std::int64_t>(static_cast<std::int64_t>(tensor.nbytes()) / rows, 1);
  const std::int64_t piece = std::max(kPieceBytes / row_bytes / kPanelRows, std::int64_t{1}) * kPanelRows;
  for (std::int64_t first = 0; first < rows; first += piece) {
    arena.import_rows(info.name, first, tensor.narrow(0, first, std::min(piece, rows - first)));
    checkpoint.release(info.name);
  }
}

}  // namespace

Model load_model(const std::filesystem::path& folder, bool with_gradients, bool panels,
                 at::ScalarType dtype) {
  FERRO_CHECK(!panels || dtype == at::kFloat, "panels hold fp32, not {}", at::toString(dtype));
  Model model;
  model.config = ModelConfig::load_folder(folder);
  const CheckpointReader checkpoint(folder);
  std::vector<std::string> wrong =
      tensor_differences(checkpoint, ArenaTable::make(model.config, panels), model.config);
  if (wrong.empty()) wrong = tied_head_difference(checkpoint, model.config);
  if (!wrong.empty())
    fail(ErrorCode::kData, "{}: the tensors are not those of config.json:\n  {}", folder.string(),
         fmt::join(wrong, "\n  "));

  model.arena = ParameterArena::allocate(model.config, panels, with_gradients, dtype);
  for (const ParameterInfo& info : model.arena.table.parameters) import_tensor(checkpoint, info, model.arena);
  model.weights = bind_weights(model.config, model.arena);
  return model;
}

}  // namespace ferro

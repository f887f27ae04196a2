#include "model/checkpoint_writer.h"
#include "model/lora.h"
#include "model/model_folder.h"

namespace ferro {

std::string save_model(const Model& model, const std::filesystem::path& folder,
                       const std::filesystem::path& source_folder, at::ScalarType dtype,
                       std::uint64_t max_shard_bytes) {
  std::vector<NamedShape> tensors;
  for (const ParameterInfo& info : model.arena.table.parameters) tensors.push_back({info.name, info.shape});
  return write_model_folder(folder, model.config, source_folder, tensors, dtype, max_shard_bytes,
                            [&](const NamedShape& tensor, SafetensorsWriter& writer) {
                              writer.write(merged_parameter(model, tensor.name));
                            });
}

}  // namespace ferro

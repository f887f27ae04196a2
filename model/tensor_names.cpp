#include "model/tensor_names.h"

namespace ferro {
namespace {

constexpr std::string_view kVisual = "visual.", kText = "model.", kMemoryVisual = "model.visual.",
                           kMemoryText = "model.language_model.";

std::string with_prefix(std::string_view prefix, std::string_view rest) {
  return std::string(prefix).append(rest);
}

}  // namespace

std::string hub_tensor_name(std::string_view name) {
  if (name.starts_with(kMemoryVisual)) return with_prefix(kVisual, name.substr(kMemoryVisual.size()));
  if (name.starts_with(kMemoryText)) return with_prefix(kText, name.substr(kMemoryText.size()));
  return std::string(name);
}

std::string in_memory_tensor_name(std::string_view hub_name) {
  if (hub_name.starts_with(kVisual)) return with_prefix(kMemoryVisual, hub_name.substr(kVisual.size()));
  if (hub_name.starts_with(kText)) return with_prefix(kMemoryText, hub_name.substr(kText.size()));
  return std::string(hub_name);
}

}  // namespace ferro

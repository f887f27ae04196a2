#include "model/random_checkpoint.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include "core/bounded_queue.h"
#include "core/error.h"
#include "model/arena.h"
#include "model/initial_values.h"

namespace ferro {
namespace {

constexpr std::int64_t kPieceElements = std::int64_t{1} << 22;
constexpr std::size_t kPiecesAhead = 12;  // Drawing goes on while a finished shard is flushed to the disk.

std::int64_t num_elements(const NamedShape& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  return count;
}

/// Draws all tensors in order on a thread of its own, a bounded number of pieces ahead of who takes them.
class Drawer {
 public:
  Drawer(const ModelConfig& config, const std::vector<NamedShape>& tensors, const RandomModelOptions& options)
      : pieces_(kPiecesAhead), thread_([this, &config, &tensors, &options] {
          try {
            for (const NamedShape& tensor : tensors)
              if (!draw(config, tensor, options)) return;
          } catch (...) {
            failure_ = std::current_exception();
          }
          pieces_.close();
        }) {}
  Drawer(const Drawer&) = delete;
  Drawer& operator=(const Drawer&) = delete;
  ~Drawer() { pieces_.close(); }

  at::Tensor next() {
    std::optional<at::Tensor> piece = pieces_.pop();
    if (piece) return std::move(*piece);
    thread_.join();
    if (failure_) std::rethrow_exception(failure_);
    FERRO_CHECK(false, "more pieces were asked for than there are");
  }

 private:
  bool draw(const ModelConfig& config, const NamedShape& tensor, const RandomModelOptions& options) {
    const InitialValues values(config, tensor.name, tensor.shape, options.seed);
    const std::int64_t all = num_elements(tensor);
    for (std::int64_t first = 0; first < all; first += kPieceElements) {
      const at::Tensor piece = at::empty({std::min(kPieceElements, all - first)}, at::kFloat);
      values.fill(first, {piece.data_ptr<float>(), static_cast<std::size_t>(piece.numel())});
      if (!pieces_.push(piece.to(options.dtype))) return false;
    }
    return true;
  }

  BoundedQueue<at::Tensor> pieces_;
  std::exception_ptr failure_;
  std::jthread thread_;  ///< Last: ends before what it uses.
};

}  // namespace

std::string write_random_model(const std::filesystem::path& folder, const ModelConfig& config,
                               const RandomModelOptions& options) {
  std::vector<NamedShape> tensors;
  for (const ParameterInfo& info : ArenaTable::make(config, false).parameters)
    tensors.push_back({info.name, info.shape});
  Drawer drawer(config, tensors, options);
  return write_model_folder(
      folder, config, options.companions, tensors, options.dtype, options.max_shard_bytes,
      [&](const NamedShape& tensor, SafetensorsWriter& writer) {
        for (std::int64_t left = num_elements(tensor); left > 0;) {
          if (options.stop.stop_requested())
            fail(ErrorCode::kCheckpointed, "{}: told to stop; nothing of it is left", folder.string());
          const at::Tensor piece = drawer.next();
          writer.write(std::span(static_cast<const std::byte*>(piece.const_data_ptr()), piece.nbytes()));
          left -= piece.numel();
        }
      });
}

}  // namespace ferro

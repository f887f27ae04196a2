#include "launch/plugins.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string_view>
#include <system_error>

#include "core/error.h"

namespace ferro {
namespace {

std::filesystem::path library_folder() {
  std::error_code failure;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failure);
  if (failure)
    fail(ErrorCode::kIo, "cannot find the folder of this program (/proc/self/exe): {}", failure.message());
  return program.parent_path().parent_path() / "lib";
}

/// LibTorch's OpenMP threads wait for each other by spinning for milliseconds, unless told otherwise before
/// they are loaded. Where other programs use the processor too, that made training of a small model twenty
/// times slower; sleeping after some microseconds costs a free machine next to nothing. A setting of the
/// user's own stands.
void let_idle_threads_sleep() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", "1000", 0);
}

template <class Table>
const Table& checked(const void* pointer, std::string_view library) {
  FERRO_CHECK(pointer != nullptr, "{} has an empty table", library);
  const auto& table = *static_cast<const Table*>(pointer);
  if (std::string_view(table.version) != FERRO_VERSION)
    fail(ErrorCode::kInternal,
         "{} is of version {}, this program of {}: build both again (cmake --build --preset release)",
         library, table.version, FERRO_VERSION);
  return table;
}

}  // namespace

const void* load_plugin(const std::filesystem::path& library, const char* entry, const char* how_to_build) {
  if (!std::filesystem::exists(library))
    fail(ErrorCode::kUsage, "this build of ferro has no {} ({} does not exist): {}",
         library.filename().string(), library.string(), how_to_build);
  let_idle_threads_sleep();
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) fail(ErrorCode::kInternal, "cannot load {}: {}", library.string(), dlerror());
  void* symbol = dlsym(handle, entry);
  if (symbol == nullptr) fail(ErrorCode::kInternal, "{} has no function {}", library.string(), entry);
  return reinterpret_cast<const void* (*)()>(symbol)();
}

const RuntimeTable& runtime() {
  const auto library = library_folder() / "libferro_runtime.so";
  const void* table =
      load_plugin(library, "ferro_runtime_table",
                  "commands that run a model need LibTorch; run `bash launch/setup.sh`, then "
                  "`cmake --preset release -DFERRO_TORCH=ON && cmake --build --preset release`");
  return checked<RuntimeTable>(table, library.string());
}

const PictureTable& pictures() {
  const auto library = library_folder() / "libferro_pictures.so";
  const void* table =
      load_plugin(library, "ferro_picture_table",
                  "commands that read or draw images need OpenCV; install it (launch/setup.sh does), then "
                  "`cmake --preset release -DFERRO_SERVICES=ON && cmake --build --preset release`");
  return checked<PictureTable>(table, library.string());
}

const ServiceTable& services() {
  const auto library = library_folder() / "libferro_services.so";
  if (!std::filesystem::exists(library))
    fail(ErrorCode::kConfig,
         "reward_service.endpoints names a service, and this build of ferro has no gRPC ({} does not exist): "
         "leave it empty to judge in this process, or build with "
         "`cmake --preset release -DFERRO_SERVICES=ON && cmake --build --preset release`",
         library.string());
  return checked<ServiceTable>(load_plugin(library, "ferro_service_table", ""), library.string());
}

ImageLoaderFactory image_loader_factory() {
  return pictures().make_loader;
}

}  // namespace ferro

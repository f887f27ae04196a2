#include "model/kernels/kernels.h"

#include <cstring>
#include <initializer_list>

namespace ferro::kernels {

#define FERRO_DECLARE_ISA(isa)                 \
  namespace isa {                              \
  void add_gemm(Kernels& table);               \
  void add_attention_forward(Kernels& table);  \
  void add_attention_backward(Kernels& table); \
  void add_rows(Kernels& table);               \
  void add_blocks(Kernels& table);             \
  void add_softmax(Kernels& table);            \
  static Kernels all() {                       \
    Kernels table{};                           \
    table.name = #isa;                         \
    add_gemm(table);                           \
    add_attention_forward(table);              \
    add_attention_backward(table);             \
    add_rows(table);                           \
    add_blocks(table);                         \
    add_softmax(table);                        \
    return table;                              \
  }                                            \
  }
FERRO_DECLARE_ISA(portable)
#if defined(__x86_64__)
FERRO_DECLARE_ISA(avx2)
FERRO_DECLARE_ISA(avx512)
#endif

const Kernels* find(const char* name) {
#if defined(__x86_64__)
  if (std::strcmp(name, "avx512") == 0) {
    static const Kernels table = avx512::all();
    return __builtin_cpu_supports("avx512f") ? &table : nullptr;
  }
  if (std::strcmp(name, "avx2") == 0) {
    static const Kernels table = avx2::all();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &table : nullptr;
  }
#endif
  if (std::strcmp(name, "portable") == 0) {
    static const Kernels table = portable::all();
    return &table;
  }
  return nullptr;
}

const Kernels& best() {
  static const Kernels& chosen = [&]() -> const Kernels& {
    for (const char* name : {"avx512", "avx2"})
      if (const Kernels* table = find(name)) return *table;
    return *find("portable");
  }();
  return chosen;
}

}  // namespace ferro::kernels

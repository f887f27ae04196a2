#pragma once

#include <limits>
#include <type_traits>
#include <vector>

namespace ferro {

/// Closed range of a numeric field.
template <class T>
struct Range {
  T min = std::numeric_limits<T>::lowest();
  T max = std::numeric_limits<T>::max();
};

/// Allowed values of a string field, as literals.
using Choices = std::vector<const char*>;

// A config section is a plain struct with default member initialisers and one
//
//   template <class Visitor> void visit(Visitor& v) {
//     v.field("epsilon", epsilon, {.min = 0.0, .max = 1.0}, "What it does, its unit, when to change it.");
//     v.field("loss_type", loss_type, Choices{"grpo", "dapo"}, "...");       // std::string + choices
//     v.field("seed", seed, "...");                                           // bool, int64, double, string,
//     vector<..> v.section("optimizer", optimizer, "...");                               // nested struct
//   }
//
// and, optionally, rules that span fields:
//
//   template <class Report> void validate(Report&& report) const { if (...) report("epsilon_high", "must be
//   >= epsilon"); }
//
// Field types: bool, int, std::int64_t, double, std::string, std::vector<std::string>,
// std::vector<double>, std::vector<std::int64_t>.
// The YAML reader, `--set a.b=c`, the resolved dump and docs/config.md all come from visit().

}  // namespace ferro

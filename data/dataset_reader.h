#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/row.h"

namespace ferro {

/// A row that cannot be used, named so that its owner can find it.
struct SetAsideRow {
  std::string file;
  std::int64_t row = 0;  ///< From 0.
  std::string reason;    ///< Short, stable, countable: "missing_field", "empty_field", "wrong_type",
                         ///< "empty_image_path", "not_utf8", "image_missing".
  std::string detail;    ///< "field `solution` is absent".
};

struct Dataset {
  RowKind kind = RowKind::kRl;
  std::string path;
  std::vector<Row> rows;
  std::vector<SetAsideRow> set_aside;
  std::string sha256;  ///< Of the file.
  std::map<std::string, std::size_t> set_aside_counts() const;
};

struct DatasetOptions {
  std::filesystem::path
      image_root;  ///< Joined with image_path (a leading '/' of which is dropped); empty: the file's folder.
  bool require_images = true;  ///< Rows whose image file does not exist are set aside ("image_missing").
  std::size_t max_rows = 0;    ///< 0: all.
};

/// Reads one JSON array or JSON lines. A malformed row (wrong type, absent field, no such image) is set aside
/// and counted; a file that is not JSON (truncated, not an array and not lines) is Error{kData} with file,
/// byte offset and the number of whole rows before it; a missing file is Error{kIo}. All rows set aside:
/// Error{kData}.
Dataset read_dataset(const std::filesystem::path& path, RowKind kind, const DatasetOptions& options = {});

/// The kind that the fields of one of the first 100 rows name; Error{kData} when none fits.
RowKind detect_row_kind(const std::filesystem::path& path);

}  // namespace ferro

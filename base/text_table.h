// Columns for a terminal.
//
//   TextTable table({"MODEL", "-BYTES"});
//   table.Add({"tiny", "8.11 MiB"});
//   std::cout << table.Text();
#ifndef OUNCE_BASE_TEXT_TABLE_H_
#define OUNCE_BASE_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace ounce {

class TextTable {
 public:
  // A column whose header begins with '-' (not shown) is aligned to the right.
  explicit TextTable(std::vector<std::string> headers);

  // As many cells as headers.
  void Add(std::vector<std::string> cells);

  // Header and rows, two spaces between columns, each line with its end.
  std::string Text() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the headers first
  std::vector<bool> right_;
};

}  // namespace ounce

#endif  // OUNCE_BASE_TEXT_TABLE_H_

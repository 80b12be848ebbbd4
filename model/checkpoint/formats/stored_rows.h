// What the codes of all formats are that are read row by row from the tensors
// of a file.
#ifndef OUNCE_MODEL_CHECKPOINT_FORMATS_STORED_ROWS_H_
#define OUNCE_MODEL_CHECKPOINT_FORMATS_STORED_ROWS_H_

#include <cstdint>
#include <string>
#include <utility>

#include "model/checkpoint/tensor_files.h"
#include "quant/codes.h"

namespace ounce::model {

// Ownership: the files must outlive it.
class StoredRows : public quant::CodeRows {
 public:
  const std::string& name() const final { return name_; }
  int64_t rows() const final { return rows_; }
  int64_t cols() const final { return cols_; }
  const quant::CodeFormat& format() const final { return format_; }

 protected:
  // `name` is that of the weight.
  StoredRows(const TensorFiles& files, std::string name, int64_t rows,
             int64_t cols, quant::CodeFormat format)
      : files_(files),
        name_(std::move(name)),
        rows_(rows),
        cols_(cols),
        format_(std::move(format)) {}

  const TensorFiles& files() const { return files_; }

 private:
  const TensorFiles& files_;
  const std::string name_;
  const int64_t rows_;
  const int64_t cols_;
  const quant::CodeFormat format_;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_FORMATS_STORED_ROWS_H_

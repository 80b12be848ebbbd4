#include "model/saver/gguf_files.h"

#include <utility>

#include "base/status_macros.h"

namespace ounce::model {
namespace {

constexpr char kName[] = "model.gguf";

int64_t Aligned(int64_t bytes) {
  return (bytes + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment;
}

class Files final : public WeightFiles {
 public:
  Files(const nlohmann::json& metadata, std::vector<GgufWeight> weights)
      : weights_(std::move(weights)) {
    std::vector<GgufHeaderTensor> tensors;
    for (GgufWeight& weight : weights_) {
      weight.tensor.offset = data_bytes_;
      data_bytes_ += Aligned(weight.bytes);
      tensors.push_back(weight.tensor);
    }
    header_ = GgufHeader(metadata, tensors);
  }

  int64_t bytes() const override {
    return static_cast<int64_t>(header_.size()) + data_bytes_;
  }
  std::optional<nlohmann::json> config() const override { return std::nullopt; }

  absl::Status Write(NewFolder& folder,
                     const SavedTensorDone& done) const override {
    ASSIGN_OR_RETURN(const auto file, folder.Create(kName, bytes()));
    const auto start = static_cast<int64_t>(header_.size());
    RETURN_IF_ERROR(file->WriteAt(0, header_.data(), start));
    for (const GgufWeight& weight : weights_) {
      TensorSink sink(file.get(), start + weight.tensor.offset);
      RETURN_IF_ERROR(weight.write(sink));
      RETURN_IF_ERROR(done(weight.weight, weight.bytes));
    }
    return file->Finish();
  }

 private:
  std::vector<GgufWeight> weights_;
  std::string header_;
  int64_t data_bytes_ = 0;
};

}  // namespace

std::unique_ptr<const WeightFiles> GgufFiles(const nlohmann::json& metadata,
                                             std::vector<GgufWeight> weights) {
  return std::make_unique<const Files>(metadata, std::move(weights));
}

}  // namespace ounce::model

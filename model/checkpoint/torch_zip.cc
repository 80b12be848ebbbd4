#include "model/checkpoint/torch_zip.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "model/checkpoint/unpickler.h"
#include "model/checkpoint/zip_archive.h"

namespace ounce::model {
namespace {

constexpr char kResave[] =
    "; save it again in Python: torch.save(torch.load(path), path)";

// The CRC of one storage, compared when it is first asked for.
class CrcOnce : public StorageCheck {
 public:
  CrcOnce(const ByteSource& file, std::string name, ZipMember member)
      : file_(file), name_(std::move(name)), member_(member) {}

  absl::Status Verify() const override {
    MutexLock lock(&mu_);
    if (!done_) {
      result_ = CheckCrc(file_, name_, member_);
      done_ = true;
    }
    return result_;
  }

 private:
  const ByteSource& file_;
  const std::string name_;
  const ZipMember member_;
  mutable Mutex mu_;
  mutable bool done_ ABSL_GUARDED_BY(mu_) = false;
  mutable absl::Status result_ ABSL_GUARDED_BY(mu_);
};

absl::Status Refuse(const ByteSource& file, const std::string& reason) {
  return absl::InvalidArgumentError(absl::StrCat(file.name(), ": ", reason));
}

// kUnimplemented for what torch.save wrote before it wrote zip files.
absl::Status CheckIsZip(const ByteSource& file) {
  std::array<char, 264> head = {};
  const int64_t n = std::min<int64_t>(head.size(), file.size());
  RETURN_IF_ERROR(file.Read(0, n, head.data()));
  const std::string_view bytes(head.data(), n);
  if (bytes.starts_with("PK")) return absl::OkStatus();
  if (bytes.size() > 262 && bytes.substr(257, 5) == "ustar") {
    return absl::UnimplementedError(
        absl::StrCat(file.name(),
                     ": is in the tar form of PyTorch before 0.4, which is not "
                     "supported",
                     kResave));
  }
  // PROTO, then LONG1 of torch.save's magic number.
  if (bytes.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46")) {
    return absl::UnimplementedError(
        absl::StrCat(file.name(),
                     ": is in the form of PyTorch before 1.6, which is not "
                     "supported",
                     kResave));
  }
  return Refuse(file, "not a file of torch.save: no zip header");
}

using Members = std::map<std::string, ZipMember>;

absl::StatusOr<std::string> ReadMember(const ByteSource& file,
                                       const std::string& name,
                                       const ZipMember& member,
                                       int64_t max_bytes) {
  if (member.size > max_bytes) {
    return Refuse(file, absl::StrCat(Quoted(name), " must have at most ",
                                     max_bytes, " bytes, has ", member.size));
  }
  RETURN_IF_ERROR(CheckCrc(file, name, member));
  std::string bytes(member.size, '\0');
  RETURN_IF_ERROR(file.Read(member.offset, member.size, bytes.data()));
  return bytes;
}

// The archive's top folder with a slash: where data.pkl is.
absl::StatusOr<std::string> FindRoot(const ByteSource& file,
                                     const Members& members) {
  std::string root;
  for (const auto& [name, member] : members) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos && name.substr(slash) == "/data.pkl") {
      if (!root.empty()) return Refuse(file, "two members named data.pkl");
      root = name.substr(0, slash + 1);
    }
  }
  if (root.empty()) {
    return Refuse(file, "no member NAME/data.pkl: not a file of torch.save");
  }
  if (const auto order = members.find(root + "byteorder");
      order != members.end()) {
    ASSIGN_OR_RETURN(const std::string text,
                     ReadMember(file, order->first, order->second, 64));
    if (text != "little") {
      return absl::UnimplementedError(absl::StrCat(
          file.name(), ": byte order must be 'little', is ", Quoted(text)));
    }
  }
  return root;
}

// The elements a tensor reaches from its offset on.
absl::StatusOr<int64_t> Reach(const PickledTensor& tensor) {
  int64_t reach = 1;
  for (size_t axis = 0; axis < tensor.shape.size(); ++axis) {
    int64_t span = 0;
    if (tensor.strides[axis] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("stride ", ShapeText(tensor.strides), " is negative"));
    }
    if (tensor.shape[axis] == 0) return 0;
    if (__builtin_mul_overflow(tensor.shape[axis] - 1, tensor.strides[axis],
                               &span) ||
        __builtin_add_overflow(reach, span, &reach)) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape ", ShapeText(tensor.shape), " with stride ",
                       ShapeText(tensor.strides), " overflows 64 bits"));
    }
  }
  return reach;
}

bool IsRowMajor(const PickledTensor& tensor) {
  int64_t expected = 1;
  for (size_t axis = tensor.shape.size(); axis-- > 0;) {
    if (tensor.shape[axis] == 1) continue;  // its stride means nothing
    if (tensor.strides[axis] != expected) return false;
    expected *= tensor.shape[axis];
  }
  return true;
}

// Checks `pickled` against its storage; only the reason in the error.
absl::StatusOr<StoredTensor> Place(const PickledTensor& pickled,
                                   const ZipMember& member) {
  const int64_t size = quant::SizeOf(pickled.dtype);
  if (pickled.storage_elements > member.size / size) {
    return absl::InvalidArgumentError(
        absl::StrCat("its storage has ", member.size, " bytes, too few for ",
                     pickled.storage_elements, " ",
                     std::string(quant::Name(pickled.dtype))));
  }
  ASSIGN_OR_RETURN(const int64_t bytes,
                   CheckedBytes(pickled.shape, pickled.dtype));
  ASSIGN_OR_RETURN(const int64_t reach, Reach(pickled));
  if (pickled.offset < 0 || pickled.offset > pickled.storage_elements ||
      reach > pickled.storage_elements - pickled.offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        "shape ", ShapeText(pickled.shape), " with stride ",
        ShapeText(pickled.strides), " at element ", pickled.offset,
        " reaches outside its storage of ", pickled.storage_elements));
  }
  StoredTensor tensor;
  tensor.info.dtype = pickled.dtype;
  tensor.info.shape = pickled.shape;
  tensor.offset = member.offset + pickled.offset * size;
  if (bytes > 0 && !IsRowMajor(pickled)) tensor.strides = pickled.strides;
  return tensor;
}

}  // namespace

absl::StatusOr<TensorTable> ParseTorchZip(const ByteSource& file) {
  RETURN_IF_ERROR(CheckIsZip(file));
  ASSIGN_OR_RETURN(const Members members, ListZipMembers(file));
  ASSIGN_OR_RETURN(const std::string root, FindRoot(file, members));
  const std::string pickle_name = root + "data.pkl";
  ASSIGN_OR_RETURN(
      const std::string pickle,
      ReadMember(file, pickle_name, members.at(pickle_name), kMaxPickleBytes));
  const absl::StatusOr<std::vector<PickledTensor>> unpickled =
      UnpickleStateDict(pickle);
  if (!unpickled.ok()) {
    return WithContext(unpickled.status(),
                       absl::StrCat(file.name(), ": data.pkl"));
  }

  TensorTable table;
  std::map<std::string, std::shared_ptr<const StorageCheck>> checks;
  std::map<std::tuple<int64_t, quant::DType, std::vector<int64_t>,
                      std::vector<int64_t>>,
           int64_t>
      ids;
  for (const PickledTensor& pickled : *unpickled) {
    const auto member =
        members.find(absl::StrCat(root, "data/", pickled.storage_key));
    if (member == members.end()) {
      return TensorError(
          file, pickled.name,
          absl::StrCat("no storage ", Quoted(pickled.storage_key)));
    }
    absl::StatusOr<StoredTensor> tensor = Place(pickled, member->second);
    if (!tensor.ok()) {
      return TensorError(file, pickled.name,
                         std::string(tensor.status().message()));
    }
    std::shared_ptr<const StorageCheck>& check = checks[member->first];
    if (check == nullptr) {
      check = std::make_shared<CrcOnce>(file, member->first, member->second);
    }
    tensor->check = check;
    const int64_t next_id = static_cast<int64_t>(ids.size());
    tensor->info.storage_id =
        ids.emplace(std::tuple(tensor->offset, tensor->info.dtype,
                               tensor->info.shape, tensor->strides),
                    next_id)
            .first->second;
    table.emplace(pickled.name, *std::move(tensor));
  }
  return table;
}

}  // namespace ounce::model

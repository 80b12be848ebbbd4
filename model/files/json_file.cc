#include "model/files/json_file.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "model/files/byte_source.h"

namespace ounce::model {
namespace {

using nlohmann::json;

// Builds the document from the parser's events; the library's own builder
// neither bounds the depth nor notices a key that comes twice.
class Builder : public nlohmann::json_sax<json> {
 public:
  json Take() { return std::move(root_); }
  const std::string& error() const { return error_; }

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(number_integer_t value) override {
    return Add(value) != nullptr;
  }
  bool number_unsigned(number_unsigned_t value) override {
    return Add(value) != nullptr;
  }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value) != nullptr;
  }
  bool string(string_t& value) override {
    return Add(std::move(value)) != nullptr;
  }
  bool binary(binary_t&) override { return Fail("binary value"); }

  bool start_object(size_t) override { return Open(json::object()); }
  bool start_array(size_t) override { return Open(json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& key) override {
    const auto [slot, added] = open_.back()->emplace(key, nullptr);
    if (!added) return Fail(absl::StrCat("key ", Quoted(key), " comes twice"));
    slot_ = &*slot;
    return true;
  }

  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("malformed JSON at byte ", position, ", near ",
                             Quoted(last_token)));
  }

 private:
  bool Fail(std::string reason) {
    error_ = std::move(reason);
    return false;
  }

  json* Add(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }

  bool Open(json container) {
    if (open_.size() >= kMaxJsonDepth) {
      return Fail(absl::StrCat("nested deeper than ", kMaxJsonDepth));
    }
    // An array's elements move when it grows, but never while one is open.
    open_.push_back(Add(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  json root_;
  std::vector<json*> open_;  // from the root down to what is being filled
  json* slot_ = nullptr;     // where the value of the last key goes
  std::string error_;
};

absl::StatusOr<json> Parse(const std::string& name, std::string_view text) {
  Builder builder;
  if (json::sax_parse(text.begin(), text.end(), &builder)) {
    return builder.Take();
  }
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", builder.error()));
}

absl::Status TooLong(const std::string& name, int64_t bytes) {
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": must have at most ", kMaxJsonBytes, " bytes, has ", bytes));
}

// `text` with quotes around Python's words for numbers that JSON does not know.
std::string WithQuotedNonFinite(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  bool in_string = false;
  while (!text.empty()) {
    std::string_view word = text.substr(0, 1);
    if (in_string && word == "\\") {
      word = text.substr(0, 2);
    } else if (word == "\"") {
      in_string = !in_string;
    } else if (!in_string) {
      for (const std::string_view known : {"NaN", "Infinity", "-Infinity"}) {
        if (text.starts_with(known)) word = known;
      }
    }
    const bool known = word.size() > 2;
    if (known) result += '"';
    result += word;
    if (known) result += '"';
    text.remove_prefix(word.size());
  }
  return result;
}

}  // namespace

absl::StatusOr<json> ParseJsonObject(const std::string& name,
                                     std::string_view text) {
  if (static_cast<int64_t>(text.size()) > kMaxJsonBytes) {
    return TooLong(name, static_cast<int64_t>(text.size()));
  }
  absl::StatusOr<json> document = Parse(name, text);
  if (!document.ok() &&
      (text.find("NaN") != text.npos || text.find("Infinity") != text.npos)) {
    absl::StatusOr<json> quoted = Parse(name, WithQuotedNonFinite(text));
    if (quoted.ok()) document = std::move(quoted);
  }
  RETURN_IF_ERROR(document.status());
  if (!document->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": must be a JSON object, is JSON ", document->type_name()));
  }
  return document;
}

absl::StatusOr<json> ReadJsonObject(const std::string& path) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ByteSource> file, OpenFile(path));
  if (file->size() > kMaxJsonBytes) {
    return TooLong(path, file->size());
  }
  std::string text(file->size(), '\0');
  RETURN_IF_ERROR(file->Read(0, file->size(), text.data()));
  return ParseJsonObject(path, text);
}

}  // namespace ounce::model

#include "client/comparison_subject.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "client/input_file.h"
#include "client/picture_file.h"

namespace ounce::client {
namespace {

// FNV-1a: whether a text is the one that it was.
std::string Fingerprint(const std::string& bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return absl::StrFormat("%016x", hash);
}

absl::StatusOr<std::vector<std::string>> FewPicturesIn(
    const std::string& folder) {
  constexpr size_t kMostPictures = 64;  // of one Quantize
  ASSIGN_OR_RETURN(std::vector<std::string> paths, PicturesIn(folder));
  if (paths.empty()) {
    return absl::NotFoundError(
        absl::StrCat("there is no ", PictureEndings(), " in '", folder, "'"));
  }
  if (paths.size() > kMostPictures) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", folder, "' has ", paths.size(),
                     " pictures, which may be ", kMostPictures, " at most"));
  }
  return paths;
}

bool Can(const v1::Model& model, v1::Task task) {
  return std::count(model.tasks().begin(), model.tasks().end(), task) > 0;
}

// The ids of its beginning.
absl::StatusOr<std::vector<int32_t>> IdsOf(Client& client,
                                           const std::string& model,
                                           const std::string& text) {
  constexpr size_t kBytes = 64 << 10;
  size_t end = std::min(text.size(), kBytes);
  while (end > 0 && end < text.size() &&
         (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) {
    --end;  // not within a character
  }
  v1::TokenizeRequest request;
  request.set_model(model);
  request.set_text(text.substr(0, end));
  ASSIGN_OR_RETURN(const v1::TokenizeResponse response,
                   client.Tokenize(request));
  return std::vector<int32_t>(response.token_ids().begin(),
                              response.token_ids().end());
}

absl::Status PrepareText(Client& client, const SubjectFlags& flags,
                         Subject* subject, Json* settings) {
  if (flags.text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", flags.model,
                     "' generates text; give the text to measure it on "
                     "with --text FILE"));
  }
  if (!flags.pictures.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", flags.model, "' generates text and sees no --pictures"));
  }
  ASSIGN_OR_RETURN(subject->text,
                   ReadText(flags.text, "compare on a part of it"));
  subject->text_name = TextName(flags.text);
  ASSIGN_OR_RETURN(subject->ids, IdsOf(client, flags.model, subject->text));
  if (subject->ids.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(InputName(flags.text), ": has no tokens"));
  }
  const int64_t positions = subject->model.max_positions();
  subject->prompt_tokens = std::min({int64_t{flags.prompt},
                                     static_cast<int64_t>(subject->ids.size()),
                                     std::max<int64_t>(1, positions / 2)});
  subject->new_tokens = flags.tokens;
  // What the server takes for 0.
  constexpr int64_t kDefaultWindow = 1024;
  subject->window =
      flags.window > 0 ? flags.window : std::min(kDefaultWindow, positions);
  subject->stride = flags.stride > 0 ? flags.stride : (subject->window + 1) / 2;
  (*settings)["text"] = FileName(InputName(flags.text));
  (*settings)["text_bytes"] = subject->text.size();
  (*settings)["text_fingerprint"] = Fingerprint(subject->text);
  (*settings)["window"] = subject->window;
  (*settings)["stride"] = subject->stride;
  (*settings)["prompt_tokens"] = subject->prompt_tokens;
  (*settings)["new_tokens"] = subject->new_tokens;
  return absl::OkStatus();
}

absl::Status PreparePictures(const SubjectFlags& flags, Subject* subject,
                             Json* settings) {
  if (flags.pictures.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", flags.model,
                     "' detects objects; give the pictures to measure it "
                     "on with --pictures DIR"));
  }
  if (!flags.text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", flags.model, "' detects objects and reads no --text"));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                   FewPicturesIn(flags.pictures));
  ASSIGN_OR_RETURN(subject->pictures, ReadPictures(paths));
  Json names = Json::array();
  for (const std::string& path : paths) names.push_back(FileName(path));
  (*settings)["pictures"] = std::move(names);
  (*settings)["pictures_fingerprint"] =
      Fingerprint(absl::StrJoin(subject->pictures, ""));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> PrepareComparison(Client& client,
                                       const SubjectFlags& flags,
                                       Subject* subject) {
  v1::GetModelRequest request;
  request.set_name(flags.model);
  ASSIGN_OR_RETURN(subject->model, client.GetModel(request));
  ASSIGN_OR_RETURN(const v1::Server server, client.GetServer());
  Json settings = {{"model", flags.model},
                   {"path", subject->model.path()},
                   {"architecture", subject->model.architecture()},
                   {"parameters", subject->model.parameters()},
                   {"checkpoint_bytes", subject->model.checkpoint_bytes()},
                   {"compute", subject->model.compute()},
                   {"kv_cache_dtype", subject->model.kv_cache_dtype()},
                   {"server_version", server.version()},
                   {"instruction_set", server.instruction_set()},
                   {"threads", server.threads()}};
  if (Can(subject->model, v1::TASK_GENERATE)) {
    RETURN_IF_ERROR(PrepareText(client, flags, subject, &settings));
  } else if (Can(subject->model, v1::TASK_DETECT_OBJECTS)) {
    RETURN_IF_ERROR(PreparePictures(flags, subject, &settings));
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("'", flags.model,
                     "' is not served yet, or does what this program does "
                     "not know"));
  }
  Json notes = Json::array();
  notes.push_back(
      "Of the weights that a spec stores: their bits, fields beside the codes "
      "included, and their error, the root mean square of the tensors' "
      "relative ones, each weighted by its elements.");
  notes.push_back(
      "Speeds are left out of what was over too soon to tell; more "
      "--new_tokens take longer.");
  if (!server.has_energy_joules()) {
    notes.push_back(
        "Joules are left out: the server can't read them (RAPL in "
        "/sys/class/powercap).");
  }
  return Json{{"model", flags.model},
              {"settings", std::move(settings)},
              {"notes", std::move(notes)},
              {"results", Json::array()}};
}

}  // namespace ounce::client

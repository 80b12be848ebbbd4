#include "server/trace/otlp_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ounce::server {
namespace {

using Json = nlohmann::ordered_json;

// opentelemetry.proto.trace.v1
constexpr int kInternal = 1;  // SpanKind
constexpr int kServer = 2;
constexpr int kError = 2;        // Status.StatusCode
constexpr int kSampled = 0x001;  // SpanFlags
constexpr int kHasIsRemote = 0x100;
constexpr int kIsRemote = 0x200;

Json StringValue(std::string_view text) { return {{"stringValue", text}}; }

struct ToValue {
  Json operator()(int64_t number) const {
    return {{"intValue", absl::StrCat(number)}};
  }
  Json operator()(double number) const { return {{"doubleValue", number}}; }
  Json operator()(const std::string& text) const { return StringValue(text); }
  Json operator()(const std::vector<std::string>& texts) const {
    Json values = Json::array();
    for (const std::string& text : texts) values.push_back(StringValue(text));
    return {{"arrayValue", {{"values", std::move(values)}}}};
  }
};

Json Attributes(const std::vector<Attribute>& attributes) {
  Json list = Json::array();
  for (const Attribute& attribute : attributes) {
    list.push_back({{"key", attribute.key},
                    {"value", std::visit(ToValue(), attribute.value)}});
  }
  return list;
}

class SpanWriter {
 public:
  SpanWriter(absl::Duration to_system, Json& spans)
      : to_system_(to_system), spans_(spans) {}

  void Add(const Work& work, const std::function<SpanId()>& new_id) {
    const TraceContext& context = work.context;
    const bool serves = work.kind == Work::Kind::kServer;
    Json& span = Start(context, context.span, context.parent, work.name,
                       serves ? kServer : kInternal);
    span["flags"] =
        kSampled | kHasIsRemote | (context.parent != 0 ? kIsRemote : 0);
    Finish(work.start, work.end, work.attributes, span);
    if (work.failed) span["status"] = {{"code", kError}};
    for (const Phase& phase : work.phases) {
      Json& below =
          Start(context, new_id(), context.span, phase.name, kInternal);
      below["flags"] = kSampled | kHasIsRemote;
      Finish(phase.start, phase.end, phase.attributes, below);
    }
  }

 private:
  Json& Start(const TraceContext& context, SpanId id, SpanId parent,
              std::string_view name, int kind) {
    spans_.push_back(Json::object());
    Json& span = spans_.back();
    span["traceId"] = Hex(context.trace);
    span["spanId"] = Hex(id);
    if (parent != 0) span["parentSpanId"] = Hex(parent);
    if (!context.state.empty()) span["traceState"] = context.state;
    span["name"] = name;
    span["kind"] = kind;
    return span;
  }

  void Finish(absl::Time start, absl::Time end,
              const std::vector<Attribute>& attributes, Json& span) const {
    span["startTimeUnixNano"] = UnixNanos(start);
    span["endTimeUnixNano"] = UnixNanos(std::max(start, end));
    span["attributes"] = Attributes(attributes);
  }

  std::string UnixNanos(absl::Time time) const {
    return absl::StrCat(absl::ToUnixNanos(time + to_system_));
  }

  const absl::Duration to_system_;
  Json& spans_;
};

}  // namespace

std::string OtlpJson(const Resource& resource, absl::Span<const Work> works,
                     absl::Duration to_system,
                     const std::function<SpanId()>& new_id) {
  Json spans = Json::array();
  SpanWriter writer(to_system, spans);
  for (const Work& work : works) writer.Add(work, new_id);
  Json attributes = Json::array();
  for (const auto& [key, value] : resource.attributes) {
    attributes.push_back({{"key", key}, {"value", StringValue(value)}});
  }
  Json scope_spans;
  scope_spans["scope"] = {{"name", "ounce"}, {"version", resource.version}};
  scope_spans["spans"] = std::move(spans);
  Json resource_spans;
  resource_spans["resource"] = {{"attributes", std::move(attributes)}};
  resource_spans["scopeSpans"] = Json::array({std::move(scope_spans)});
  Json request;
  request["resourceSpans"] = Json::array({std::move(resource_spans)});
  return request.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int64_t RejectedSpans(const std::string& response) {
  const Json json = Json::parse(response, nullptr, false);
  const Json::json_pointer where("/partialSuccess/rejectedSpans");
  if (!json.is_object() || !json.contains(where)) return 0;
  const Json& rejected = json[where];
  if (rejected.is_number_integer()) return rejected.get<int64_t>();
  int64_t number = 0;
  if (rejected.is_string()) {
    (void)absl::SimpleAtoi(rejected.get<std::string>(), &number);
  }
  return number;
}

}  // namespace ounce::server

#include "ui/cli/junit.h"

#include <fmt/format.h>

#include <algorithm>

#include "ui/cli/commands.h"

namespace vg::cli {

namespace {

std::string output_element(const char* name, const std::string& text) {
    return text.empty() ? "" : fmt::format("      <{0}>{1}</{0}>\n", name, xml_text(text));
}

std::string result_element(const JunitCase& test) {
    switch (test.result) {
        case JunitCase::Result::Pass:
            return "";
        case JunitCase::Result::Skipped:
            return fmt::format("      <skipped message=\"{}\"/>\n", xml_text(test.message));
        case JunitCase::Result::Failure:
        case JunitCase::Result::Error:
            break;
    }
    const char* name = test.result == JunitCase::Result::Error ? "error" : "failure";
    return fmt::format("      <{0} message=\"{1}\" type=\"{2}\">{1}</{0}>\n", name, xml_text(test.message),
                       xml_text(test.type));
}

std::string case_element(const JunitCase& test) {
    std::string out = "    <testcase";
    if (!test.suite.empty()) out += fmt::format(" classname=\"{}\"", xml_text(test.suite));
    out += fmt::format(" name=\"{}\" time=\"{:.3f}\">\n", xml_text(test.name), test.seconds);
    if (!test.properties.empty()) {
        out += "      <properties>\n";
        for (const auto& [name, value] : test.properties) {
            out += fmt::format("        <property name=\"{}\" value=\"{}\"/>\n", xml_text(name), xml_text(value));
        }
        out += "      </properties>\n";
    }
    return out + result_element(test) + output_element("system-out", test.out) +
           output_element("system-err", test.err) + "    </testcase>\n";
}

}  // namespace

std::string xml_text(std::string_view bytes) {
    std::string out;
    const std::string text = printable(bytes);
    for (std::size_t i = 0; i < text.size(); ++i) {
        switch (text[i]) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\xef':  // U+FFFE, U+FFFF
                if (text.compare(i, 3, "\xef\xbf\xbe") == 0 || text.compare(i, 3, "\xef\xbf\xbf") == 0) {
                    out += '?';
                    i += 2;
                    break;
                }
                [[fallthrough]];
            default:
                out += text[i];
        }
    }
    return out;
}

std::string junit_text(std::string_view suite, const std::vector<JunitCase>& cases) {
    const auto count = [&](JunitCase::Result result) {
        return std::count_if(cases.begin(), cases.end(), [&](const JunitCase& test) { return test.result == result; });
    };
    double seconds = 0;
    std::string body;
    for (const JunitCase& test : cases) {
        seconds += test.seconds;
        body += case_element(test);
    }
    const std::string sums = fmt::format("tests=\"{}\" failures=\"{}\" errors=\"{}\"", cases.size(),
                                         count(JunitCase::Result::Failure), count(JunitCase::Result::Error));
    return fmt::format(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<testsuites name=\"verdigris\" {0} time=\"{1:.3f}\">\n"
        "  <testsuite name=\"{2}\" {0} skipped=\"{3}\" time=\"{1:.3f}\">\n{4}  </testsuite>\n</testsuites>\n",
        sums, seconds, xml_text(suite), count(JunitCase::Result::Skipped), body);
}

}  // namespace vg::cli

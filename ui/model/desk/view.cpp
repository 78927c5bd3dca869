#include "ui/model/desk/view.h"

#include <algorithm>

namespace vg::desk {

std::vector<std::string> table_text(const Table& table, std::size_t limit) {
    std::vector<std::string> lines;
    const u64 rows = std::min<u64>(table.rows(), limit);
    for (u64 row = 0; row < rows; ++row) {
        std::string line;
        for (std::size_t column = 0; column < table.columns().size(); ++column) {
            const std::string text = table.cell(row, column).text;
            if (text.empty()) continue;
            if (!line.empty()) line += "  ";
            line += text;
        }
        lines.push_back(std::move(line));
    }
    return lines;
}

Json for_focus(const Session& session, Json request) {
    request["partition"] = session.focus().partition;
    request["vp"] = session.focus().vp;
    return request;
}

}  // namespace vg::desk

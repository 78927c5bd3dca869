-- Hypercalls, SynIC and VMBus in captures of `verdigris run --pcapng` and `verdigris vmbus ... export`.
--   tshark -X lua_script:tools/wireshark/vmbus.lua -r capture.pcapng
-- The records are LINKTYPE_USER0 with the header of docs/vmbus-capture.md. Guests wrote the rest: every access is checked.

local hv = Proto("hv", "Verdigris hypervisor capture")
local vmbus = Proto("vmbus", "Hyper-V VMBus")
local vstor = Proto("vstor", "Hyper-V synthetic storage")
local nvsp = Proto("nvsp", "Hyper-V synthetic network")
local rndis = Proto("hv_rndis", "Remote NDIS over VMBus")
local vservice = Proto("vservice", "Hyper-V synthetic device")

local KINDS = { [1] = "hypercall", [2] = "SynIC message", [3] = "SynIC event", [4] = "VMBus message", [5] = "VMBus packet",
    [6] = "VMBus signal" }
local SERVICES = { [0] = "unknown", "storage", "ide", "network", "keyboard", "mouse", "video", "heartbeat", "shutdown", "timesync",
    "kvp", "vss", "file_copy", "dynamic_memory", "pci", "socket", "other" }
local MESSAGES = { "OFFERCHANNEL", "RESCIND_CHANNELOFFER", "REQUESTOFFERS", "ALLOFFERS_DELIVERED", "OPENCHANNEL",
    "OPENCHANNEL_RESULT", "CLOSECHANNEL", "GPADL_HEADER", "GPADL_BODY", "GPADL_CREATED", "GPADL_TEARDOWN", "GPADL_TORNDOWN",
    "RELID_RELEASED", "INITIATE_CONTACT", "VERSION_RESPONSE", "UNLOAD", "UNLOAD_RESPONSE", "OPEN_RESERVED_CHANNEL",
    "CLOSE_RESERVED_CHANNEL", "CLOSE_RESERVED_RESPONSE", "TL_CONNECT_REQUEST", "MODIFYCHANNEL", "TL_CONNECT_RESULT",
    "MODIFYCHANNEL_RESPONSE", "MODIFY_CONNECTION", "MODIFY_CONNECTION_RESPONSE", "PAUSE", "PAUSE_RESPONSE", "RESUME" }
local PACKETS = { [6] = "in-band", [7] = "transfer-pages", [8] = "GPADL", [9] = "GPA-direct", [11] = "completion", [0x8000] = "content" }
local OPERATIONS = { "COMPLETE_IO", "REMOVE_DEVICE", "EXECUTE_SRB", "RESET_LUN", "RESET_ADAPTER", "RESET_BUS",
    "BEGIN_INITIALIZATION", "END_INITIALIZATION", "QUERY_PROTOCOL_VERSION", "QUERY_PROPERTIES", "ENUMERATE_BUS", "FCHBA_DATA",
    "CREATE_SUB_CHANNELS", "EVENT_NOTIFICATION" }
local SRB_STATUS = { [0] = "pending", [1] = "success", [2] = "aborted", [4] = "error", [6] = "invalid request", [8] = "no device",
    [9] = "timeout", [0x0a] = "selection timeout", [0x0e] = "bus reset", [0x12] = "data overrun", [0x20] = "invalid LUN",
    [0x30] = "internal error" }
local SCSI_STATUS = { [0] = "good", [2] = "check condition", [8] = "busy", [0x18] = "reservation conflict", [0x28] = "task set full" }
local DATA = { [0] = "write", [1] = "read", [2] = "none" }
local SCSI = { [0x00] = "TEST UNIT READY", [0x03] = "REQUEST SENSE", [0x08] = "READ(6)", [0x0a] = "WRITE(6)", [0x12] = "INQUIRY",
    [0x15] = "MODE SELECT(6)", [0x1a] = "MODE SENSE(6)", [0x1b] = "START STOP UNIT", [0x1e] = "PREVENT ALLOW MEDIUM REMOVAL",
    [0x25] = "READ CAPACITY(10)", [0x28] = "READ(10)", [0x2a] = "WRITE(10)", [0x2f] = "VERIFY(10)",
    [0x35] = "SYNCHRONIZE CACHE(10)", [0x41] = "WRITE SAME(10)", [0x42] = "UNMAP", [0x55] = "MODE SELECT(10)",
    [0x5a] = "MODE SENSE(10)", [0x5e] = "PERSISTENT RESERVE IN", [0x5f] = "PERSISTENT RESERVE OUT", [0x85] = "ATA PASS-THROUGH(16)",
    [0x88] = "READ(16)", [0x8a] = "WRITE(16)", [0x8f] = "VERIFY(16)", [0x91] = "SYNCHRONIZE CACHE(16)", [0x93] = "WRITE SAME(16)",
    [0x9e] = "SERVICE ACTION IN(16)", [0xa0] = "REPORT LUNS", [0xa1] = "ATA PASS-THROUGH(12)", [0xa3] = "MAINTENANCE IN",
    [0xa8] = "READ(12)", [0xaa] = "WRITE(12)" }
-- By service: the messages of the small ones. Where the type is, whether a pipe header comes first.
local IC_TYPES = { [0] = "NEGOTIATE", "HEARTBEAT", "KVP_EXCHANGE", "SHUTDOWN", "TIMESYNC", "VSS", [7] = "FILE_COPY" }
local KEYBOARD_TYPES = { "PROTOCOL_REQUEST", "PROTOCOL_RESPONSE", "EVENT", "LED_INDICATORS" }
local MOUSE_TYPES = { [0] = "PROTOCOL_REQUEST", "PROTOCOL_RESPONSE", "INITIAL_DEVICE_INFO", "INITIAL_DEVICE_INFO_ACK", "INPUT_REPORT" }
local VIDEO_TYPES = { "VERSION_REQUEST", "VERSION_RESPONSE", "VRAM_LOCATION", "VRAM_LOCATION_ACK", "SITUATION_UPDATE",
    "SITUATION_UPDATE_ACK", "POINTER_POSITION", "POINTER_SHAPE", "FEATURE_CHANGE", "DIRT", [13] = "RESOLUTION_REQUEST",
    [14] = "RESOLUTION_RESPONSE" }
local MEMORY_TYPES = { "VERSION_REQUEST", "VERSION_RESPONSE", "CAPABILITIES_REPORT", "CAPABILITIES_RESPONSE", "STATUS_REPORT",
    "BALLOON_REQUEST", "BALLOON_RESPONSE", "UNBALLOON_REQUEST", "UNBALLOON_RESPONSE", "MEM_HOT_ADD_REQUEST",
    "MEM_HOT_ADD_RESPONSE", "INFO_MESSAGE" }
local KVP_OPERATIONS = { [0] = "GET", "SET", "DELETE", "ENUMERATE", "GET_IP_INFO", "SET_IP_INFO" }
local VSS_OPERATIONS = { [0] = "CREATE", "DELETE", "HOT_BACKUP", "GET_DM_INFO", "COMPLETE", "FREEZE", "THAW", "AUTO_RECOVER" }
local HYPERCALLS = { [0x0002] = "FlushVirtualAddressSpace", [0x0003] = "FlushVirtualAddressList",
    [0x0004] = "GetLogicalProcessorRunTime", [0x0008] = "NotifyLongSpinWait", [0x000b] = "SendSyntheticClusterIpi",
    [0x0013] = "FlushVirtualAddressSpaceEx", [0x0014] = "FlushVirtualAddressListEx", [0x0015] = "SendSyntheticClusterIpiEx",
    [0x0040] = "CreatePartition", [0x0041] = "InitializePartition", [0x0042] = "FinalizePartition", [0x0043] = "DeletePartition",
    [0x0044] = "GetPartitionProperty", [0x0045] = "SetPartitionProperty", [0x0046] = "GetPartitionId",
    [0x0047] = "GetNextChildPartition", [0x0048] = "DepositMemory", [0x0049] = "WithdrawMemory", [0x004a] = "GetMemoryBalance",
    [0x004b] = "MapGpaPages", [0x004c] = "UnmapGpaPages", [0x004d] = "InstallIntercept", [0x004e] = "CreateVp",
    [0x004f] = "DeleteVp", [0x0050] = "GetVpRegisters", [0x0051] = "SetVpRegisters", [0x0052] = "TranslateVirtualAddress",
    [0x0053] = "ReadGpa", [0x0054] = "WriteGpa", [0x0056] = "ClearVirtualInterrupt", [0x0058] = "DeletePort",
    [0x005b] = "DisconnectPort", [0x005c] = "PostMessage", [0x005d] = "SignalEvent", [0x006c] = "MapStatsPage",
    [0x006d] = "UnmapStatsPage", [0x006f] = "SetSystemProperty", [0x0076] = "AddLogicalProcessor", [0x007b] = "GetSystemProperty",
    [0x007c] = "MapDeviceInterrupt", [0x007d] = "UnmapDeviceInterrupt", [0x007e] = "RetargetDeviceInterrupt",
    [0x0084] = "EnterSleepState", [0x0087] = "NotifyPartitionEvent", [0x008b] = "NotifyPortRingEmpty",
    [0x0091] = "RegisterInterceptResult", [0x0092] = "UnregisterInterceptResult", [0x0094] = "AssertVirtualInterrupt",
    [0x0095] = "CreatePort", [0x0096] = "ConnectPort", [0x00ac] = "TranslateVirtualAddressEx", [0x00c0] = "SignalEventDirect",
    [0x00c1] = "PostMessageDirect", [0x00c2] = "DispatchVp", [0x00e1] = "MapVpStatePage", [0x00e2] = "UnmapVpStatePage",
    [0x00e3] = "GetVpState", [0x00e4] = "SetVpState", [0x00f4] = "GetVpCpuidValues", [0x0101] = "GetPartitionPropertyEx",
    [0x010a] = "SetPartitionPropertyEx", [0x8001] = "ExtQueryCapabilities" }
local STATUS = { [0] = "Success", [2] = "InvalidHypercallCode", [3] = "InvalidHypercallInput", [4] = "InvalidAlignment",
    [5] = "InvalidParameter", [6] = "AccessDenied", [7] = "InvalidPartitionState", [8] = "OperationDenied", [9] = "UnknownProperty",
    [0x0a] = "PropertyValueOutOfRange", [0x0b] = "InsufficientMemory", [0x0d] = "InvalidPartitionId", [0x0e] = "InvalidVpIndex",
    [0x11] = "InvalidPortId", [0x12] = "InvalidConnectionId", [0x13] = "InsufficientBuffers", [0x15] = "InvalidVpState",
    [0x18] = "InvalidSynicState", [0x19] = "ObjectInUse", [0x1d] = "NoResources", [0x41] = "InvalidLpIndex",
    [0x50] = "InvalidRegisterValue", [0x71] = "OperationFailed", [0x73] = "InsufficientRootMemory",
    [0x75] = "InsufficientContiguousMemory", [0x78] = "TimeOut", [0x79] = "CallPending",
    [0x83] = "InsufficientContiguousRootMemory", [0x87] = "UnknownRegisterName" }
local INTERFACES = { ["ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"] = "SCSI controller", ["32412632-86cb-44a2-9b5c-50d1417354f5"] = "IDE accelerator",
    ["f8615163-df3e-46c5-913f-f2d2f965ed0e"] = "network adapter", ["f912ad6d-2b17-48ea-bd65-f927a61c7684"] = "keyboard",
    ["cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a"] = "mouse", ["da0a7802-e377-4aac-8e77-0558eb1073f8"] = "video",
    ["57164f39-9115-4e78-ab55-382f3bd5422d"] = "heartbeat", ["0e0b6031-5213-4934-818b-38d90ced39db"] = "shutdown",
    ["9527e630-d0ae-497b-adce-e80ab0175caf"] = "time synchronization", ["a9a0f4e7-5a45-4d96-b827-8a841e8c03e6"] = "key-value pairs",
    ["35fa2e29-ea23-4236-96ae-3a6ebacba440"] = "volume snapshots", ["525074dc-8985-46e2-8057-a307dc18a502"] = "dynamic memory",
    ["44c4f61d-4444-4400-9d52-802e27ede19f"] = "PCI pass-through" }

local H, D, N = base.HEX, base.DEC, base.NONE
local f = {
    version = ProtoField.uint8("hv.version", "Format version", D), kind = ProtoField.uint8("hv.kind", "Kind", D, KINDS),
    to_guest = ProtoField.bool("hv.to_guest", "To the guest"), service = ProtoField.uint8("hv.service", "Service", D, SERVICES),
    channel = ProtoField.uint16("hv.channel", "Channel", D), partition = ProtoField.uint64("hv.partition", "Partition", D),
    vp = ProtoField.uint32("hv.vp", "VP", D), size = ProtoField.uint32("hv.payload_size", "Payload size", D),
    instructions = ProtoField.uint64("hv.instructions", "Instructions executed", D),
    control = ProtoField.uint64("hv.hypercall.control", "Control", H), code = ProtoField.uint16("hv.hypercall.code", "Code", H, HYPERCALLS),
    fast = ProtoField.bool("hv.hypercall.fast", "Fast"), reps = ProtoField.uint16("hv.hypercall.reps", "Repetitions", D),
    input = ProtoField.uint64("hv.hypercall.input", "Input", H), output = ProtoField.uint64("hv.hypercall.output", "Output", H),
    status = ProtoField.uint16("hv.hypercall.status", "Status", H, STATUS), done = ProtoField.uint16("hv.hypercall.done", "Repetitions done", D),
    data = ProtoField.bytes("hv.data", "Data"),
    sint = ProtoField.uint64("hv.synic.sint", "SINT", D), sint_type = ProtoField.uint64("hv.synic.type", "Message type", H),
    flag = ProtoField.uint64("hv.synic.flag", "Event flag", D), target = ProtoField.uint64("hv.synic.target_vp", "Target VP", D),
    origin = ProtoField.uint64("hv.synic.origin", "Origin", H), fresh = ProtoField.uint64("hv.synic.fresh", "Was clear", D) }
local m = {
    message = ProtoField.uint32("vmbus.message", "Message", D, MESSAGES), relid = ProtoField.uint32("vmbus.relid", "Relid", D),
    interface = ProtoField.guid("vmbus.interface", "Interface"), instance = ProtoField.guid("vmbus.instance", "Instance"),
    interface_name = ProtoField.string("vmbus.interface_name", "Interface name"),
    flags = ProtoField.uint16("vmbus.offer.flags", "Flags", H), mmio = ProtoField.uint16("vmbus.offer.mmio", "MMIO megabytes", D),
    sub_channel = ProtoField.uint16("vmbus.sub_channel", "Sub-channel", D), monitor = ProtoField.uint8("vmbus.monitor", "Monitor", D),
    monitor_allocated = ProtoField.uint8("vmbus.monitor_allocated", "Monitor allocated", D),
    connection = ProtoField.uint32("vmbus.connection", "Connection", H), open_id = ProtoField.uint32("vmbus.open_id", "Open id", D),
    gpadl = ProtoField.uint32("vmbus.gpadl", "GPADL", H), target_vp = ProtoField.uint32("vmbus.target_vp", "Target VP", D),
    split = ProtoField.uint32("vmbus.downstream_page_offset", "Downstream page offset", D),
    range_bytes = ProtoField.uint16("vmbus.gpadl.range_bytes", "Bytes of ranges", D),
    range_count = ProtoField.uint16("vmbus.gpadl.range_count", "Ranges", D), byte_count = ProtoField.uint32("vmbus.gpadl.bytes", "Bytes", D),
    number = ProtoField.uint32("vmbus.gpadl.number", "Message number", D), result = ProtoField.uint32("vmbus.status", "Status", H),
    version = ProtoField.uint32("vmbus.version", "Version", H), interrupt = ProtoField.uint64("vmbus.interrupt", "Interrupt page, or SINT and VTL", H),
    p2c = ProtoField.uint64("vmbus.parent_to_child", "Parent to child monitor page", H),
    c2p = ProtoField.uint64("vmbus.child_to_parent", "Child to parent monitor page", H),
    supported = ProtoField.uint8("vmbus.supported", "Supported", D), state = ProtoField.uint8("vmbus.connection_state", "Connection state", D),
    endpoint = ProtoField.guid("vmbus.endpoint", "Endpoint"), socket = ProtoField.guid("vmbus.socket_service", "Service"),
    type = ProtoField.uint16("vmbus.packet", "Packet", D, PACKETS), offset8 = ProtoField.uint16("vmbus.packet.data_offset8", "Data offset (8 bytes)", D),
    length8 = ProtoField.uint16("vmbus.packet.total_length8", "Length (8 bytes)", D), pflags = ProtoField.uint16("vmbus.packet.flags", "Flags", H),
    wants = ProtoField.bool("vmbus.completion_requested", "Completion requested"),
    transaction = ProtoField.uint64("vmbus.transaction", "Transaction", H),
    ranges = ProtoField.uint32("vmbus.ranges", "Ranges", D), range_len = ProtoField.uint32("vmbus.range.bytes", "Range bytes", D),
    range_off = ProtoField.uint32("vmbus.range.offset", "Range offset", H), pfn = ProtoField.uint64("vmbus.range.pfn", "First page", H),
    payload = ProtoField.bytes("vmbus.payload", "Payload"),
    request_in = ProtoField.framenum("vmbus.request_in", "Request in", N, frametype.REQUEST),
    response_in = ProtoField.framenum("vmbus.response_in", "Completion in", N, frametype.RESPONSE),
    latency = ProtoField.double("vmbus.latency", "Seconds since the request") }
local s = {
    op = ProtoField.uint32("vstor.operation", "Operation", D, OPERATIONS), flags = ProtoField.uint32("vstor.flags", "Flags", H),
    status = ProtoField.uint32("vstor.status", "Status", H), version = ProtoField.uint16("vstor.version", "Protocol version", H),
    sub_channels = ProtoField.uint16("vstor.sub_channels", "Sub-channels", D),
    length = ProtoField.uint16("vstor.srb.length", "SRB length", D), srb = ProtoField.uint8("vstor.srb.status", "SRB status", H, SRB_STATUS, 0x3f),
    scsi = ProtoField.uint8("vstor.srb.scsi_status", "SCSI status", H, SCSI_STATUS), path = ProtoField.uint8("vstor.srb.path", "Path", D),
    target = ProtoField.uint8("vstor.srb.target", "Target", D), lun = ProtoField.uint8("vstor.srb.lun", "LUN", D),
    cdb_length = ProtoField.uint8("vstor.srb.cdb_length", "CDB length", D), sense_length = ProtoField.uint8("vstor.srb.sense_length", "Sense length", D),
    data = ProtoField.uint8("vstor.srb.data", "Data", D, DATA), bytes = ProtoField.uint32("vstor.srb.transfer_length", "Transfer length", D),
    cdb = ProtoField.bytes("vstor.cdb", "CDB"), opcode = ProtoField.uint8("vstor.scsi.opcode", "SCSI command", H, SCSI),
    lba = ProtoField.uint64("vstor.scsi.lba", "LBA", D), blocks = ProtoField.uint64("vstor.scsi.blocks", "Blocks", D),
    sense = ProtoField.bytes("vstor.sense", "Sense data") }
local NVSP = { [1] = "INIT", [2] = "INIT_COMPLETE", [100] = "SEND_NDIS_VERSION", [101] = "SEND_RECV_BUF", [102] = "SEND_RECV_BUF_COMPLETE",
    [103] = "REVOKE_RECV_BUF", [104] = "SEND_SEND_BUF", [105] = "SEND_SEND_BUF_COMPLETE", [106] = "REVOKE_SEND_BUF", [107] = "SEND_RNDIS_PKT",
    [108] = "SEND_RNDIS_PKT_COMPLETE", [125] = "SEND_NDIS_CONFIG", [128] = "SEND_VF_ASSOCIATION", [129] = "SWITCH_DATA_PATH",
    [131] = "OID_QUERY_EX", [132] = "OID_QUERY_EX_COMPLETE", [133] = "SUBCHANNEL", [134] = "INDIRECTION_TABLE" }
local NVSP_STATUS = { [0] = "none", "success", "fail", "protocol too new", "protocol too old", "invalid RNDIS packet", "busy", "unsupported" }
local n = {
    type = ProtoField.uint32("nvsp.type", "Message", D, NVSP), min = ProtoField.uint32("nvsp.min_version", "Lowest version", H),
    max = ProtoField.uint32("nvsp.max_version", "Highest version", H), version = ProtoField.uint32("nvsp.version", "Version", H),
    status = ProtoField.uint32("nvsp.status", "Status", D, NVSP_STATUS), gpadl = ProtoField.uint32("nvsp.gpadl", "GPADL", H),
    id = ProtoField.uint16("nvsp.buffer_id", "Buffer", H), size = ProtoField.uint32("nvsp.section_size", "Section size", D),
    count = ProtoField.uint32("nvsp.count", "Count", D), mtu = ProtoField.uint32("nvsp.mtu", "Longest frame", D),
    caps = ProtoField.uint64("nvsp.capabilities", "Capabilities", H), major = ProtoField.uint32("nvsp.ndis_major", "NDIS major", D),
    minor = ProtoField.uint32("nvsp.ndis_minor", "NDIS minor", D),
    channel = ProtoField.uint32("nvsp.rndis_channel", "RNDIS channel", D, { [0] = "data", "control" }),
    section = ProtoField.uint32("nvsp.section", "Section", D), bytes = ProtoField.uint32("nvsp.section_bytes", "Bytes in the section", D),
    active = ProtoField.uint32("nvsp.active", "Active", D), offset = ProtoField.uint32("nvsp.offset", "Offset", D),
    entry = ProtoField.uint32("nvsp.entry", "Channel", D), op = ProtoField.uint32("nvsp.operation_or_status", "Operation or status", D) }
local RNDIS = { [1] = "PACKET", [2] = "INITIALIZE", [3] = "HALT", [4] = "QUERY", [5] = "SET", [6] = "RESET", [7] = "INDICATE_STATUS", [8] = "KEEPALIVE",
    [0x80000002] = "INITIALIZE_CMPLT", [0x80000004] = "QUERY_CMPLT", [0x80000005] = "SET_CMPLT", [0x80000006] = "RESET_CMPLT",
    [0x80000008] = "KEEPALIVE_CMPLT" }
local OIDS = { [0x00010101] = "SUPPORTED_LIST", [0x00010106] = "MAXIMUM_FRAME_SIZE", [0x00010107] = "LINK_SPEED", [0x0001010e] = "CURRENT_PACKET_FILTER",
    [0x00010114] = "MEDIA_CONNECT_STATUS", [0x00010203] = "RECEIVE_SCALE_CAPABILITIES", [0x00010204] = "RECEIVE_SCALE_PARAMETERS",
    [0x0001021b] = "RNDIS_CONFIG_PARAMETER", [0x00020216] = "FRIENDLY_NAME", [0x01010101] = "PERMANENT_ADDRESS", [0x01010102] = "CURRENT_ADDRESS",
    [0x01010103] = "MULTICAST_LIST", [0xfc01020b] = "TCP_OFFLOAD_CURRENT_CONFIG", [0xfc01020c] = "TCP_OFFLOAD_PARAMETERS",
    [0xfc01020d] = "TCP_OFFLOAD_HARDWARE_CAPABILITIES" }
local d = {
    type = ProtoField.uint32("hv_rndis.type", "Message", H, RNDIS), length = ProtoField.uint32("hv_rndis.length", "Length", D),
    id = ProtoField.uint32("hv_rndis.request", "Request", D), oid = ProtoField.uint32("hv_rndis.oid", "Object", H, OIDS),
    status = ProtoField.uint32("hv_rndis.status", "Status", H), info = ProtoField.uint32("hv_rndis.information_length", "Information", D),
    offset = ProtoField.uint32("hv_rndis.data_offset", "Data offset", D), data = ProtoField.uint32("hv_rndis.data_length", "Data length", D),
    infos = ProtoField.uint32("hv_rndis.packet_information_length", "Per-packet information", D) }
local v = {
    pipe_type = ProtoField.uint32("vservice.pipe.type", "Pipe message", D), pipe_size = ProtoField.uint32("vservice.pipe.size", "Pipe size", D),
    message = ProtoField.string("vservice.message", "Message"), type = ProtoField.uint32("vservice.type", "Message type", D),
    size = ProtoField.uint32("vservice.size", "Size", D), status = ProtoField.uint32("vservice.status", "Status", H),
    transaction = ProtoField.uint8("vservice.transaction", "Transaction", D), flags = ProtoField.uint8("vservice.flags", "Flags", H),
    operation = ProtoField.string("vservice.operation", "Operation"), sequence = ProtoField.uint64("vservice.heartbeat", "Sequence", D),
    host_time = ProtoField.uint64("vservice.host_time", "Host time (100 ns)", D),
    make_code = ProtoField.uint16("vservice.make_code", "Make code", H), up = ProtoField.bool("vservice.key_up", "Goes up"),
    x = ProtoField.uint16("vservice.mouse.x", "X", D), y = ProtoField.uint16("vservice.mouse.y", "Y", D),
    buttons = ProtoField.uint8("vservice.mouse.buttons", "Buttons", H), gpa = ProtoField.uint64("vservice.video.gpa", "Frame buffer", H),
    width = ProtoField.uint32("vservice.video.width", "Width", D), height = ProtoField.uint32("vservice.video.height", "Height", D),
    rectangles = ProtoField.uint8("vservice.video.rectangles", "Rectangles", D), pages = ProtoField.uint32("vservice.pages", "Pages", D) }
local function values(t) local list = {} for _, v in pairs(t) do list[#list + 1] = v end return list end
hv.fields, vmbus.fields, vstor.fields, nvsp.fields, rndis.fields, vservice.fields = values(f), values(m), values(s), values(n), values(d), values(v)
local malformed = ProtoExpert.new("hv.malformed", "Lengths lie, or a field is missing", expert.group.MALFORMED, expert.severity.ERROR)
local cut = ProtoExpert.new("hv.cut", "The capture holds only a part", expert.group.UNDECODED, expert.severity.NOTE)
hv.experts = { malformed, cut }

-- Bytes that may end anywhere: `has` marks the tree once if they do. `whole` is how many there were before the capture cut them.
local Reader = {}
Reader.__index = Reader
local function reader(tvb, tree, whole)
    return setmetatable({ tvb = tvb, tree = tree, whole = math.max(whole or 0, tvb:captured_len()), told = false }, Reader)
end
function Reader:tell(what)
    if not self.told then self.tree:add_proto_expert_info(what) end
    self.told = true
end
function Reader:has(at, size)
    if at + size <= self.tvb:captured_len() then return true end
    self:tell(at + size <= self.whole and cut or malformed)
    return false
end
function Reader:add(tree, field, at, size)
    if self:has(at, size) then tree:add_le(field, self.tvb(at, size)) end
end
function Reader:u(at, size)
    return self:has(at, size) and self.tvb(at, size):le_uint() or 0
end

-- 64-bit numbers as keys and text
local function text64(range) return range:le_uint64():tohex() end

-- Requests and their completions, by frame number.
local open, request_of, response_of, times = {}, {}, {}, {}
function hv.init() open, request_of, response_of, times = {}, {}, {}, {} end

local function match(pinfo, key, wants, completion, reverse)
    local n = pinfo.number
    if not pinfo.visited then
        times[n] = pinfo.rel_ts
        if wants then
            open[key] = open[key] or {}
            table.insert(open[key], n)
        elseif completion and open[reverse] and #open[reverse] > 0 then
            local request = table.remove(open[reverse], 1)
            request_of[n], response_of[request] = request, n
        end
    end
end

-- The connection or a channel is over: nobody answers what was asked in it.
local function forget(pinfo, prefix)
    if pinfo.visited then return end
    for key in pairs(open) do
        if key:sub(1, #prefix) == prefix then open[key] = nil end
    end
end

local function guid_text(r)
    return string.format("%08x-%04x-%04x-%s-%s", r(0, 4):le_uint(), r(4, 2):le_uint(), r(6, 2):le_uint(), r(8, 2):bytes():tohex():lower(),
        r(10, 6):bytes():tohex():lower())
end

local function offer(r, tree)
    r:add(tree, m.interface, 8, 16) r:add(tree, m.instance, 24, 16) r:add(tree, m.flags, 56, 2) r:add(tree, m.mmio, 58, 2)
    r:add(tree, m.sub_channel, 180, 2) r:add(tree, m.relid, 184, 4) r:add(tree, m.monitor, 188, 1)
    r:add(tree, m.monitor_allocated, 189, 1) r:add(tree, m.connection, 192, 4)
    if not r:has(8, 188) then return "" end
    local name = INTERFACES[guid_text(r.tvb(8, 16))] or guid_text(r.tvb(8, 16))
    tree:add(m.interface_name, r.tvb(8, 16), name)
    return string.format(" relid %d %s", r:u(184, 4), name)
end
-- Fields of the other messages, in order: {field, offset, size}
local BODIES = {
    [2] = { { "relid", 8, 4 } }, [5] = { { "relid", 8, 4 }, { "open_id", 12, 4 }, { "gpadl", 16, 4 }, { "target_vp", 20, 4 }, { "split", 24, 4 } },
    [6] = { { "relid", 8, 4 }, { "open_id", 12, 4 }, { "result", 16, 4 } }, [7] = { { "relid", 8, 4 } },
    [8] = { { "relid", 8, 4 }, { "gpadl", 12, 4 }, { "range_bytes", 16, 2 }, { "range_count", 18, 2 }, { "byte_count", 20, 4 } },
    [9] = { { "number", 8, 4 }, { "gpadl", 12, 4 } }, [10] = { { "relid", 8, 4 }, { "gpadl", 12, 4 }, { "result", 16, 4 } },
    [11] = { { "relid", 8, 4 }, { "gpadl", 12, 4 } }, [12] = { { "gpadl", 8, 4 } }, [13] = { { "relid", 8, 4 } },
    [14] = { { "version", 8, 4 }, { "target_vp", 12, 4 }, { "interrupt", 16, 8 }, { "p2c", 24, 8 }, { "c2p", 32, 8 } },
    [15] = { { "supported", 8, 1 }, { "state", 9, 1 }, { "connection", 12, 4 } },
    [21] = { { "endpoint", 8, 16 }, { "socket", 24, 16 } }, [22] = { { "relid", 8, 4 }, { "target_vp", 12, 4 } },
    [23] = { { "endpoint", 8, 16 }, { "socket", 24, 16 }, { "result", 40, 4 } }, [24] = { { "relid", 8, 4 }, { "result", 12, 4 } } }

local function message(tvb, whole, pinfo, root, partition)
    local tree = root:add(vmbus, tvb(), "Hyper-V VMBus message")
    local r = reader(tvb, tree, whole)
    r:add(tree, m.message, 0, 4)
    if not r:has(0, 8) then return "too short" end
    local type = r:u(0, 4)
    local text = MESSAGES[type] or ("message " .. type)
    if type == 1 then text = text .. offer(r, tree) end
    for _, row in ipairs(BODIES[type] or {}) do
        r:add(tree, m[row[1]], row[2], row[3])
        if row[1] == "relid" then text = text .. " relid " .. r:u(row[2], row[3]) end
        if row[1] == "gpadl" then text = text .. string.format(" GPADL 0x%x", r:u(row[2], row[3])) end
        if row[1] == "version" then text = text .. string.format(" version %d.%d", r:u(10, 2), r:u(8, 2)) end
        if row[1] == "result" and r:u(row[2], row[3]) ~= 0 then text = text .. string.format(": 0x%08x", r:u(row[2], row[3])) end
    end
    if type == 14 or type == 16 then forget(pinfo, partition .. "/") end
    if type == 1 then forget(pinfo, string.format("%s/%d/", partition, r:u(184, 4))) end
    if type == 2 or type == 6 or type == 7 then forget(pinfo, string.format("%s/%d/", partition, r:u(8, 4))) end
    tree:append_text(": " .. text)
    return text
end

-- Where SCSI commands have address and length, by opcode: {offset, size, offset, size}, big-endian
local SIX, TEN, TWELVE, SIXTEEN = { 1, 3, 4, 1 }, { 2, 4, 7, 2 }, { 2, 4, 6, 4 }, { 2, 8, 10, 4 }
local SPANS = { [0x08] = SIX, [0x0a] = SIX, [0x28] = TEN, [0x2a] = TEN, [0x2f] = TEN, [0x35] = TEN, [0x41] = TEN, [0xa8] = TWELVE,
    [0xaa] = TWELVE, [0x88] = SIXTEEN, [0x8a] = SIXTEEN, [0x8f] = SIXTEEN, [0x91] = SIXTEEN, [0x93] = SIXTEEN }

local function scsi(r, tree, at, length)
    if length == 0 or not r:has(at, 16) then return "no command" end
    tree:add(s.cdb, r.tvb(at, length))
    tree:add(s.opcode, r.tvb(at, 1))
    local opcode = r.tvb(at, 1):uint()
    local text = SCSI[opcode] or string.format("SCSI command 0x%02x", opcode)
    local span = SPANS[opcode]
    if not span then return text end
    local lba, blocks = r.tvb(at + span[1], span[2]), r.tvb(at + span[3], span[4])
    if span == SIX then
        local low = bit.band(lba:uint(), 0x1fffff)
        tree:add(s.lba, lba, UInt64(low))
        tree:add(s.blocks, blocks, UInt64(blocks:uint() == 0 and 256 or blocks:uint()))
        return string.format("%s LBA %d blocks %d", text, low, blocks:uint() == 0 and 256 or blocks:uint())
    end
    local first = span[2] == 8 and lba:uint64() or UInt64(lba:uint())
    tree:add(s.lba, lba, first)
    tree:add(s.blocks, blocks, UInt64(blocks:uint()))
    return string.format("%s LBA %s blocks %d", text, tostring(first), blocks:uint())
end

local function storage(tvb, whole, root)
    local tree = root:add(vstor, tvb(), "Hyper-V synthetic storage")
    local r = reader(tvb, tree, whole)
    r:add(tree, s.op, 0, 4) r:add(tree, s.flags, 4, 4)
    if not r:has(0, 12) then return "too short" end
    local op = r:u(0, 4)
    local text = OPERATIONS[op] or ("operation " .. op)
    if op == 9 then r:add(tree, s.version, 12, 2) end
    if op == 13 then r:add(tree, s.sub_channels, 12, 2) end
    if op == 1 then
        r:add(tree, s.status, 8, 4)
        text = text .. (r:u(8, 4) == 0 and ": ok" or string.format(": 0x%08x", r:u(8, 4)))
    end
    if op ~= 3 and not (op == 1 and tvb:captured_len() >= 64 and r:u(12, 2) == 52 and r:u(14, 1) ~= 0) then
        tree:append_text(": " .. text)
        return text
    end
    r:add(tree, s.length, 12, 2) r:add(tree, s.path, 17, 1) r:add(tree, s.target, 18, 1) r:add(tree, s.lun, 19, 1)
    r:add(tree, s.cdb_length, 20, 1) r:add(tree, s.data, 22, 1) r:add(tree, s.bytes, 24, 4)
    if op == 3 then
        local length = r:u(20, 1)
        if length > 16 or r:u(22, 1) > 2 then r:tell(malformed) end
        text = scsi(r, tree, 28, math.min(length, 16)) .. string.format(", %d bytes", r:u(24, 4))
    else
        r:add(tree, s.srb, 14, 1) r:add(tree, s.scsi, 15, 1) r:add(tree, s.sense_length, 21, 1)
        local status, sense = r:u(14, 1), r:u(21, 1)
        if bit.band(status, 0x80) ~= 0 and sense <= 20 then r:add(tree, s.sense, 28, sense) end
        text = string.format("%s, %d bytes", SRB_STATUS[bit.band(status, 0x3f)] or "unknown status", r:u(24, 4))
        if r:u(15, 1) ~= 0 then text = text .. ", " .. (SCSI_STATUS[r:u(15, 1)] or "unknown") end
    end
    tree:append_text(": " .. text)
    return text
end

-- What follows the type, by message: {field, at, size}.
local NVSP_BODY = { [1] = { { n.min, 4, 4 }, { n.max, 8, 4 } }, [2] = { { n.version, 4, 4 }, { n.status, 12, 4 } },
    [100] = { { n.major, 4, 4 }, { n.minor, 8, 4 } }, [101] = { { n.gpadl, 4, 4 }, { n.id, 8, 2 } },
    [102] = { { n.status, 4, 4 }, { n.size, 16, 4 }, { n.count, 20, 4 } }, [103] = { { n.id, 4, 2 } }, [104] = { { n.gpadl, 4, 4 }, { n.id, 8, 2 } },
    [105] = { { n.status, 4, 4 }, { n.size, 8, 4 } }, [106] = { { n.id, 4, 2 } },
    [107] = { { n.channel, 4, 4 }, { n.section, 8, 4 }, { n.bytes, 12, 4 } }, [108] = { { n.status, 4, 4 } },
    [125] = { { n.mtu, 4, 4 }, { n.caps, 12, 8 } }, [129] = { { n.active, 4, 4 } }, [133] = { { n.op, 4, 4 }, { n.count, 8, 4 } },
    [134] = { { n.count, 4, 4 }, { n.offset, 8, 4 } } }
local function network(tvb, whole, root)
    local tree = root:add(nvsp, tvb(), "Hyper-V synthetic network")
    local r = reader(tvb, tree, whole)
    r:add(tree, n.type, 0, 4)
    if not r:has(0, 4) then return "too short" end
    local type = r:u(0, 4)
    local text = NVSP[type] or ("NVSP message " .. type)
    for _, each in ipairs(NVSP_BODY[type] or {}) do r:add(tree, each[1], each[2], each[3]) end
    if type == 107 then
        text = text .. (r:u(4, 4) == 1 and " control" or " data")
        if r:u(8, 4) ~= 0xffffffff then text = text .. string.format(", %d bytes in section %d", r:u(12, 4), r:u(8, 4)) end
    end
    if type == 108 or type == 102 or type == 105 then text = text .. ": " .. (NVSP_STATUS[r:u(4, 4)] or "unknown status") end
    if type == 134 and r:has(0, 12) then
        local count, offset = r:u(4, 4), r:u(8, 4)
        for i = 0, math.min(count, 16) - 1 do r:add(tree, n.entry, offset + 4 * i, 4) end
    end
    tree:append_text(": " .. text)
    return text
end

-- Messages in buffers that a packet of the network refers to. Of a received frame the capture has the headers alone.
local function network_content(tvb, whole, root)
    local tree = root:add(rndis, tvb(), "Remote NDIS")
    local r = reader(tvb, tree, whole)
    local at, text = 0, ""
    for i = 1, 8 do
        if not r:has(at, 8) then break end
        local type, length = r:u(at, 4), r:u(at + 4, 4)
        r:add(tree, d.type, at, 4) r:add(tree, d.length, at + 4, 4)
        text = text .. (i == 1 and "RNDIS " or "; ") .. (RNDIS[type] or string.format("message 0x%x", type))
        if type == 1 then
            r:add(tree, d.offset, at + 8, 4) r:add(tree, d.data, at + 12, 4) r:add(tree, d.infos, at + 32, 4)
            text = text .. string.format(" of %d bytes", r:u(at + 12, 4))
        elseif type == 4 or type == 5 then
            r:add(tree, d.id, at + 8, 4) r:add(tree, d.oid, at + 12, 4) r:add(tree, d.info, at + 16, 4)
            text = text .. " " .. (OIDS[r:u(at + 12, 4)] or string.format("object 0x%08x", r:u(at + 12, 4)))
        elseif type == 0x80000002 or type == 0x80000004 or type == 0x80000005 or type == 0x80000008 then
            r:add(tree, d.id, at + 8, 4) r:add(tree, d.status, at + 12, 4)
            text = text .. (r:u(at + 12, 4) == 0 and ": ok" or string.format(": 0x%08x", r:u(at + 12, 4)))
        elseif type == 7 then
            r:add(tree, d.status, at + 8, 4)
        end
        if length < 8 or at + length + 8 > r.whole then break end
        at = at + length
    end
    tree:append_text(": " .. text)
    return text
end

-- Integration components behind their pipe header (D-100).
local function component(r, tree, service)
    local type, flags = r:u(12, 2), r:u(25, 1)
    r:add(tree, v.size, 18, 2) r:add(tree, v.status, 20, 4) r:add(tree, v.transaction, 24, 1) r:add(tree, v.flags, 25, 1)
    if 28 + r:u(18, 2) > r.whole then r:tell(malformed) end
    local text = (IC_TYPES[type] or "unknown") .. (bit.band(flags, 4) ~= 0 and " response" or bit.band(flags, 2) ~= 0 and " request" or "")
    local operation = type == 2 and KVP_OPERATIONS[r:u(28, 1)] or type == 5 and VSS_OPERATIONS[r:u(28, 1)] or nil
    if type == 1 then r:add(tree, v.sequence, 28, 8) end
    if type == 4 then r:add(tree, v.host_time, 28, 8) end
    if operation then
        tree:add(v.operation, operation)
        text = text .. " " .. operation
    end
    return type, text
end

-- Keyboard, mouse, video, integration components, dynamic memory: what a service says in in-band packets.
local function small_service(tvb, whole, root, service)
    local tree = root:add(vservice, tvb(), "Hyper-V " .. (SERVICES[service] or "service"))
    local r = reader(tvb, tree, whole)
    local piped = service >= 5 and service <= 12
    if not r:has(0, piped and 16 or 8) then return "too short" end
    if piped then
        r:add(tree, v.pipe_type, 0, 4) r:add(tree, v.pipe_size, 4, 4)
        if r:u(4, 4) > r.whole - 8 then r:tell(malformed) end
    end
    local type, text
    if service == 4 then
        type = r:u(0, 4)
        text = KEYBOARD_TYPES[type]
        if type == 3 and r:has(0, 12) then
            r:add(tree, v.make_code, 4, 2)
            tree:add(v.up, tvb(8, 1), bit.band(r:u(8, 1), 2) ~= 0)
            text = string.format("%s 0x%x %s", text, r:u(4, 2), bit.band(r:u(8, 1), 2) ~= 0 and "up" or "down")
        end
    elseif service == 5 then
        type = r:u(8, 4)
        text = MOUSE_TYPES[type]
        if type == 4 then r:add(tree, v.buttons, 16, 1) r:add(tree, v.x, 17, 2) r:add(tree, v.y, 19, 2) end
    elseif service == 6 then
        type = r:u(8, 4)
        text = VIDEO_TYPES[type]
        if type == 3 then r:add(tree, v.gpa, 25, 8) end
        if type == 5 then r:add(tree, v.width, 31, 4) r:add(tree, v.height, 35, 4) end
        if type == 10 then r:add(tree, v.rectangles, 17, 1) end
    elseif service == 13 then
        type = r:u(0, 2)
        text = MEMORY_TYPES[type]
        r:add(tree, v.size, 2, 2)
        if r:u(2, 2) > r.whole then r:tell(malformed) end
        if type == 6 then r:add(tree, v.pages, 8, 4) end
    elseif r:has(0, 28) then
        type, text = component(r, tree, service)
    end
    tree:add(v.type, type or 0)
    text = text or "unknown"
    tree:add(v.message, text)
    tree:append_text(": " .. text)
    return (SERVICES[service] or "service") .. " " .. text
end

-- Ranges between descriptor and data; the loop ends with the bytes.
local function ranges(r, tree, type, data)
    r:add(tree, m.ranges, 20, 4)
    local at, count = 24, r:u(20, 4)
    for i = 1, math.min(count, 4096) do
        if at + 8 > data then return r:tell(malformed) end
        if not r:has(at, 8) then return end
        local bytes, offset = r:u(at, 4), r:u(at + 4, 4)
        local pages = type == 9 and math.floor((offset + bytes + 4095) / 4096) or 0
        if pages * 8 > data - at - 8 then return r:tell(malformed) end
        if i <= 32 then
            r:add(tree, m.range_len, at, 4) r:add(tree, m.range_off, at + 4, 4)
            if pages > 0 then r:add(tree, m.pfn, at + 8, 8) end
        end
        at = at + 8 + pages * 8
    end
    if count > 4096 then r:tell(malformed) end
end

local function packet(tvb, whole, pinfo, root, partition, channel, to_guest, service)
    local tree = root:add(vmbus, tvb(), "Hyper-V VMBus packet")
    local r = reader(tvb, tree, whole)
    if not r:has(0, 16) then return "too short" end
    local type, data, length, flags = r:u(0, 2), r:u(2, 2) * 8, r:u(4, 2) * 8, r:u(6, 2)
    r:add(tree, m.type, 0, 2) r:add(tree, m.offset8, 2, 2) r:add(tree, m.length8, 4, 2) r:add(tree, m.pflags, 6, 2)
    local wants, completion = type ~= 11 and bit.band(flags, 1) ~= 0, type == 11
    tree:add(m.wants, tvb(6, 2), wants)
    r:add(tree, m.transaction, 8, 8)
    local id = text64(tvb(8, 8))
    local side, other = to_guest and "g" or "h", to_guest and "h" or "g"
    local key = partition .. "/" .. channel .. "/"
    match(pinfo, key .. side .. "/" .. id, wants, completion, key .. other .. "/" .. id)
    local request, response = request_of[pinfo.number], response_of[pinfo.number]
    if request then
        tree:add(m.request_in, request):set_generated()
        tree:add(m.latency, pinfo.rel_ts - (times[request] or pinfo.rel_ts)):set_generated()
    end
    if response then tree:add(m.response_in, response):set_generated() end
    local text = string.format("%s 0x%s", PACKETS[type] or "packet", id:gsub("^0+(%x)", "%1"))
    if data < 16 or data > length then
        r:tell(malformed)
        return text
    end
    if length > r.whole then r.whole = length end  -- the descriptor has the true length
    if type == 9 or type == 7 then
        if data < 24 then r:tell(malformed) else ranges(r, tree, type, data) end
    end
    if data < length and data >= tvb:captured_len() then r:has(data, 1) end
    if data < tvb:captured_len() then
        local payload = tvb(data):tvb()
        if service == 1 or service == 2 then
            text = text .. "  " .. storage(payload, length - data, root)
        elseif service == 3 and type == 0x8000 then
            text = text .. "  " .. network_content(payload, length - data, root)
        elseif service == 3 then
            text = text .. "  " .. network(payload, length - data, root)
        elseif service >= 4 and service <= 13 and type == 6 then
            text = text .. "  " .. small_service(payload, length - data, root, service)
        else
            tree:add(m.payload, tvb(data))
        end
    end
    tree:append_text(": " .. text)
    return text
end

local function hypercall(tvb, header, tree)
    tree:add_le(f.control, header(32, 8))
    tree:add_le(f.code, header(32, 2))
    tree:add(f.fast, header(34, 1), bit.band(header(34, 1):uint(), 1) ~= 0)
    tree:add(f.reps, header(36, 2), bit.band(header(36, 2):le_uint(), 0xfff))
    tree:add_le(f.input, header(40, 8))
    tree:add_le(f.output, header(48, 8))
    tree:add_le(f.status, header(56, 2))
    tree:add(f.done, header(60, 2), bit.band(header(60, 2):le_uint(), 0xfff))
    if tvb then tree:add(f.data, tvb()) end
    local code, status = header(32, 2):le_uint(), header(56, 2):le_uint()
    return string.format("%s: %s", HYPERCALLS[code] or string.format("hypercall 0x%04x", code),
        STATUS[status] or string.format("0x%x", status))
end

local function synic(tvb, header, tree, event)
    tree:add_le(f.sint, header(32, 8))
    tree:add_le(event and f.flag or f.sint_type, header(40, 8))
    tree:add_le(f.target, header(48, 8))
    tree:add_le(event and f.fresh or f.origin, header(56, 8))
    if tvb then tree:add(f.data, tvb()) end
    return string.format("SINT%d %s 0x%x to VP %d", header(32, 4):le_uint(), event and "flag" or "message type", header(40, 4):le_uint(),
        header(48, 4):le_uint())
end

function hv.dissector(tvb, pinfo, root)
    pinfo.cols.protocol = "HV"
    local tree = root:add(hv, tvb(), "Verdigris hypervisor capture")
    local r = reader(tvb, tree)
    if not r:has(0, 64) then return end
    local size = r:u(4, 2)
    if r:u(0, 1) ~= 1 or size < 64 or not r:has(0, size) then return r:tell(malformed) end
    local header = tvb(0, size)
    local kind, to_guest, service, channel = r:u(1, 1), bit.band(r:u(2, 1), 1) ~= 0, r:u(3, 1), r:u(6, 2)
    tree:add_le(f.version, tvb(0, 1)) tree:add_le(f.kind, tvb(1, 1)) tree:add(f.to_guest, tvb(2, 1), to_guest)
    tree:add_le(f.service, tvb(3, 1))
    if channel ~= 0 then tree:add_le(f.channel, tvb(6, 2)) end
    tree:add_le(f.partition, tvb(8, 8))
    if r:u(16, 4) ~= 0xffffffff then tree:add_le(f.vp, tvb(16, 4)) end
    tree:add_le(f.size, tvb(20, 4)) tree:add_le(f.instructions, tvb(24, 8))
    local partition = text64(tvb(8, 8))
    local guest = "partition " .. tostring(tvb(8, 8):le_uint64())
    pinfo.cols.src = to_guest and "host" or guest
    pinfo.cols.dst = to_guest and guest or "host"
    local payload, whole = tvb:captured_len() > size and tvb(size):tvb() or nil, r:u(20, 4)
    local text = KINDS[kind] or ("kind " .. kind)
    if kind == 1 then text = hypercall(payload, header, tree)
    elseif kind == 2 or kind == 3 then text = synic(payload, header, tree, kind == 3)
    elseif kind == 4 then
        pinfo.cols.protocol = "VMBus"
        if payload then text = message(payload, whole, pinfo, root, partition) else r:tell(malformed) end
    elseif kind == 5 then
        pinfo.cols.protocol = "VMBus"
        if payload then
            text = string.format("channel %d  %s", channel, packet(payload, whole, pinfo, root, partition, channel, to_guest, service))
        else r:tell(malformed) end
    elseif kind == 6 then
        pinfo.cols.protocol = "VMBus"
        text = string.format("channel %d  signal", channel)
    end
    pinfo.cols.info = text
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, hv)

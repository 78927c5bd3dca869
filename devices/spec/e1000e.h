// Registers, descriptors, NVM and PHY of the "Intel 82574 GbE Controller Family Datasheet", revision 3.4 (§7 functions,
// §10 registers), as far as they are modelled.
#pragma once

#include "base/types.h"

namespace vg::devices::e1000e {

// ---- Registers (§10.2): offsets in BAR 0
inline constexpr u32 kCtrl = 0x0000, kStatus = 0x0008, kEecd = 0x0010, kEerd = 0x0014, kCtrlExt = 0x0018,
                     kMdic = 0x0020, kFcal = 0x0028, kFcah = 0x002c, kFct = 0x0030, kVet = 0x0038, kIcr = 0x00c0,
                     kItr = 0x00c4, kIcs = 0x00c8, kIms = 0x00d0, kImc = 0x00d8, kEiac = 0x00dc, kIam = 0x00e0,
                     kIvar = 0x00e4, kEitr = 0x00e8, kRctl = 0x0100, kFcttv = 0x0170, kTxcw = 0x0178, kTctl = 0x0400,
                     kTctlExt = 0x0404, kTipg = 0x0410, kAit = 0x0458, kLedctl = 0x0e00, kExtcnfCtrl = 0x0f00,
                     kExtcnfSize = 0x0f08, kPhyCtrl = 0x0f10, kPba = 0x1000, kEemngctl = 0x1010, kEewr = 0x102c,
                     kFcrtl = 0x2160, kFcrth = 0x2168, kPsrctl = 0x2170, kRdtr = 0x2820, kRxdctl = 0x2828,
                     kRadv = 0x282c, kRsrpd = 0x2c00, kRaid = 0x2c08, kTidv = 0x3820, kTxdctl = 0x3828, kTadv = 0x382c,
                     kTarc = 0x3840, kStatistics = 0x4000, kRxcsum = 0x5000, kRfctl = 0x5008, kMta = 0x5200,
                     kRal = 0x5400, kVfta = 0x5600, kWuc = 0x5800, kWufc = 0x5808, kWus = 0x5810, kMrqc = 0x5818,
                     kManc = 0x5820, kManc2h = 0x5860, kGcr = 0x5b00, kFactps = 0x5b30, kSwsm = 0x5b50, kFwsm = 0x5b54,
                     kGcr2 = 0x5b64, kReta = 0x5c00, kRssrk = 0x5c80, kSystiml = 0xb600, kSystimh = 0xb604,
                     kTiminca = 0xb608, kTsynctxctl = 0xb614, kTsyncrxctl = 0xb620;
/// Rings: the first one's base; the second one's is kRingStride behind. Registers within: kRingBaseLow...
inline constexpr u32 kReceiveRing = 0x2800, kTransmitRing = 0x3800, kRingStride = 0x100;
inline constexpr u32 kRingBaseLow = 0x00, kRingBaseHigh = 0x04, kRingLength = 0x08, kRingHead = 0x10, kRingTail = 0x18;
inline constexpr u32 kQueues = 2, kVectors = 5, kReceiveAddresses = 16, kMulticastWords = 128, kVlanWords = 128;
inline constexpr u32 kStatisticsWords = 0x128 / 4;

// CTRL
inline constexpr u32 kCtrlMasterDisable = 1 << 2, kCtrlSetLinkUp = 1 << 6, kCtrlReset = 1u << 26,
                     kCtrlVlanMode = 1u << 30, kCtrlPhyReset = 1u << 31;
inline constexpr u32 kCtrlAtReset = 0x00300241;  ///< full duplex, set link up, 1000 Mb/s, power management
// STATUS
inline constexpr u32 kStatusFullDuplex = 1 << 0, kStatusLinkUp = 1 << 1, kStatusSpeed1000 = 2 << 6,
                     kStatusMasterEnabled = 1 << 19;
// EECD, EERD and EEWR
inline constexpr u32 kEecdPresent = 1 << 8, kEecdAutoReadDone = 1 << 9;
inline constexpr u32 kNvmStart = 1 << 0, kNvmDone = 1 << 1;
// CTRL_EXT
inline constexpr u32 kExtEepromReset = 1 << 13, kExtEiame = 1 << 24, kExtIame = 1 << 27, kExtPbaClear = 1u << 31;
// EEMNGCTL
inline constexpr u32 kConfigDone = 1 << 18;
// MDIC
inline constexpr u32 kMdicWrite = 1, kMdicRead = 2, kMdicReady = 1 << 28, kMdicInterrupt = 1 << 29,
                     kMdicError = 1u << 30;
inline constexpr u32 kPhyAddress = 1;
// SWSM
inline constexpr u32 kSmbi = 1 << 0;

// Interrupt causes: ICR, ICS, IMS, IMC, IAM, EIAC
inline constexpr u32 kTxdw = 1 << 0, kTxqe = 1 << 1, kLsc = 1 << 2, kRxdmt0 = 1 << 4, kRxo = 1 << 6, kRxt0 = 1 << 7,
                     kMdac = 1 << 9, kSrpd = 1 << 16, kAck = 1 << 17, kMng = 1 << 18, kRxq0 = 1 << 20, kTxq0 = 1 << 22,
                     kOther = 1 << 24, kIntAsserted = 1u << 31;
inline constexpr u32 kOtherCauses = kLsc | kRxo | kMdac | kSrpd | kAck | kMng;
inline constexpr u32 kAllCauses = 0x01f782d7;
/// The causes that have an entry in IVAR, in the order of its fields: RXQ0, RXQ1, TXQ0, TXQ1, OTHER.
inline constexpr u32 kVectorCauses[] = {kRxq0, kRxq0 << 1, kTxq0, kTxq0 << 1, kOther};
inline constexpr u32 kIvarValid = 8, kIvarEveryWriteBack = 1u << 31;
inline constexpr u32 kThrottleUnit_ns = 256;

// RCTL
inline constexpr u32 kRctlEnable = 1 << 1, kRctlUnicastAll = 1 << 3, kRctlMulticastAll = 1 << 4, kRctlLong = 1 << 5,
                     kRctlMacLoopback = 1 << 6, kRctlPacketSplit = 1 << 10, kRctlBroadcast = 1 << 15,
                     kRctlVlanFilter = 1 << 18, kRctlSizeExtension = 1 << 25, kRctlStripCrc = 1 << 26;
// RXCSUM and RFCTL
inline constexpr u32 kRxcsumIp = 1 << 8, kRxcsumTcpUdp = 1 << 9, kRxcsumDisabled = 1 << 13;
inline constexpr u32 kRfctlExtended = 1 << 15;
// TCTL
inline constexpr u32 kTctlEnable = 1 << 1, kTctlPad = 1 << 3;
// RAH
inline constexpr u32 kRahValid = 1u << 31, kRahWritable = 0x8003ffff;

// ---- Descriptors (§7.1, §7.2)
inline constexpr u32 kDescriptorBytes = 16;

struct ReceiveDescriptor {  // legacy, written back
    u64 address;
    u16 length, checksum;
    u8 status, errors;
    u16 vlan;
};
static_assert(sizeof(ReceiveDescriptor) == kDescriptorBytes);

struct ExtendedWriteBack {
    u32 mrq;
    u16 ip_id, checksum;
    u32 status_error;
    u16 length, vlan;
};
static_assert(sizeof(ExtendedWriteBack) == kDescriptorBytes);

struct SplitDescriptor {
    u64 buffer[4];
};
struct SplitWriteBack {
    u32 mrq;
    u16 ip_id, checksum;
    u32 status_error;
    u16 length0, vlan;
    u16 header_status, lengths[3];
    u64 reserved;
};
static_assert(sizeof(SplitDescriptor) == 32 && sizeof(SplitWriteBack) == 32);

/// Status and errors of a received frame: bits of status_error; a legacy descriptor has 7:0 and 31:24 of them.
inline constexpr u32 kRxDone = 1 << 0, kRxEndOfPacket = 1 << 1, kRxVlan = 1 << 3, kRxUdpChecked = 1 << 4,
                     kRxTcpChecked = 1 << 5, kRxIpChecked = 1 << 6, kRxTransportError = 1u << 29, kRxIpError = 1u << 30;

/// Any transmit descriptor: what the second quadword means depends on the kind.
struct TransmitDescriptor {
    u64 address;
    u32 lower;  ///< legacy: length 15:0, CSO 23:16; data: length 19:0, kind 23:20; all: command 31:24
    u32 upper;  ///< status 7:0, CSS or POPTS 15:8, VLAN 31:16; context: status, header length, MSS
};
static_assert(sizeof(TransmitDescriptor) == kDescriptorBytes);

inline constexpr u32 kTxEndOfPacket = 1u << 24, kTxInsertFcs = 1u << 25, kTxInsertChecksum = 1u << 26,
                     kTxSegment = 1u << 26, kTxReportStatus = 1u << 27, kTxExtension = 1u << 29,
                     kTxInsertVlan = 1u << 30;
inline constexpr u32 kTxKindMask = 0xf << 20, kTxKindContext = 0 << 20, kTxKindData = 1 << 20;
inline constexpr u32 kTxContextTcp = 1u << 24, kTxContextIpv4 = 1u << 25;
inline constexpr u32 kTxDone = 1 << 0;
inline constexpr u32 kTxOptionIp = 1 << 8, kTxOptionTransport = 1 << 9;

// ---- Statistics (§10.2.7): word offsets from kStatistics. All are cleared by being read.
enum class Statistic : u8 {
    MissedPackets = 0x10 / 4,
    Received64 = 0x5c / 4,
    ReceivedGood = 0x74 / 4,
    ReceivedBroadcast = 0x78 / 4,
    ReceivedMulticast = 0x7c / 4,
    TransmittedGood = 0x80 / 4,
    ReceivedGoodOctets = 0x88 / 4,
    TransmittedGoodOctets = 0x90 / 4,
    NoBuffers = 0xa0 / 4,
    Oversize = 0xac / 4,
    ReceivedOctets = 0xc0 / 4,
    TransmittedOctets = 0xc8 / 4,
    Received = 0xd0 / 4,
    Transmitted = 0xd4 / 4,
    Transmitted64 = 0xd8 / 4,
    TransmittedMulticast = 0xf0 / 4,
    TransmittedBroadcast = 0xf4 / 4,
    Segmentations = 0xf8 / 4,
    SegmentationsFailed = 0xfc / 4,
    Interrupts = 0x100 / 4,
};

// ---- NVM (§6.1): 64 words
inline constexpr u32 kNvmWords = 64;
inline constexpr u16 kNvmSum = 0xbaba;  ///< of all words; the last one makes it so
inline constexpr u32 kNvmChecksum = 0x3f;

// ---- PHY (§8.5; IEEE 802.3 clause 22)
inline constexpr u32 kPhyControl = 0, kPhyStatus = 1, kPhyPage = 22, kPhyRegisters = 32;
inline constexpr u16 kPhyReset = 1 << 15, kPhyPowerDown = 1 << 11, kPhyRestart = 1 << 9;
inline constexpr u16 kPhyLinkUp = 1 << 2, kPhyNegotiated = 1 << 5;
inline constexpr u32 kPhySpecificStatus = 17;
inline constexpr u16 kPhySpecificLink = 1 << 10;

}  // namespace vg::devices::e1000e

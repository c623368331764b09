// Everything that the page says, in each of its languages.

export const words = {
  en: {
    other: "中文",
    title: "What is in the picture?",
    knows: (n) => `This network tells ${n} classes apart.`,
    classes: "Which classes?",
    drop: "Drop images here, paste one, or:",
    choose: "Choose images",
    photograph: "Take a photo",
    examples: "Or try one of these",
    example: (n) => `Example ${n}`,
    working: "Computing …",
    results: "Predictions",
    heat: "Show where the evidence lies",
    heatAlt: (name, label) => `${name}, with the evidence for ${label} marked`,
    none: (percent) => `None of these: even the likeliest class is below ${percent}.`,
    noneShort: "None of these",
    unshown: "This browser cannot show the image; the network has read it.",
    unreadable: (name) => `${name} could not be read.`,
    limits: "What the network cannot know",
    limitClasses: (n) =>
      `It knows ${n} classes and nothing else. Whatever you show it, it names one of them, sometimes with great confidence.`,
    limitThreshold: (percent) =>
      `Below ${percent} the answer is “none of these”. That catches some pictures of other things, not all.`,
    limitNoThreshold: "This network has no threshold for “none of these”.",
    limitConfidence:
      "Percentages are meant for pictures like those it was trained on: of 100 answers given with 90 %, about 90 should be right. For other pictures (drawings, night shots, unusual views) they say little.",
    limitSize: (size, crop) =>
      `It sees a square of ${size} × ${size} pixels: ${
        { center: "the middle of the picture", squash: "the whole picture, distorted", letterbox: "the whole picture with margins" }[crop]
      }. Smaller details are lost.`,
    limitHeat:
      "Orange marks the parts of the picture that speak for the class. It does not say why, or whether the reason is a good one.",
    limitPrivacy: "Images go to this server alone, and are not stored.",
    facts: (card) => `${card.name}, computed by ${card.computed_by}, resnetlab ${card.version}.`,
    reference: "API reference",
    camera: "Take a photo",
    shoot: "Use this picture",
    cancel: "Cancel",
    tokenTitle: "This service needs a token",
    tokenLabel: "Token",
    tokenSend: "Continue",
    wrongToken: "That token was not accepted.",
    unreachable: "The server does not answer. Is it still running?",
    notImages: "That was no image.",
    tooLarge: (card) =>
      `Too large: at most ${card.max_images} images and ${card.max_megabytes} MB at once.`,
    busy: (seconds) => `The server is busy. Try again in ${seconds} s.`,
    late: "There was no answer in time. Try again.",
    failed: "The server failed. Its log says why.",
  },
  zh: {
    other: "English",
    title: "图片里是什么？",
    knows: (n) => `这个网络能区分 ${n} 个类别。`,
    classes: "有哪些类别？",
    drop: "把图片拖到这里、粘贴，或者：",
    choose: "选择图片",
    photograph: "拍照",
    examples: "也可以试试这些",
    example: (n) => `示例 ${n}`,
    working: "计算中……",
    results: "预测结果",
    heat: "显示依据所在的位置",
    heatAlt: (name, label) => `${name}，已标出支持“${label}”的区域`,
    none: (percent) => `以上都不是：最可能的类别也低于 ${percent}。`,
    noneShort: "以上都不是",
    unshown: "浏览器无法显示这张图片，但网络已经读取了它。",
    unreadable: (name) => `无法读取 ${name}。`,
    limits: "网络无法知道的事",
    limitClasses: (n) =>
      `它只认识 ${n} 个类别。无论给它看什么，它都会说出其中之一，有时还非常肯定。`,
    limitThreshold: (percent) =>
      `低于 ${percent} 时，回答是“以上都不是”。这能识别出一部分其他事物的图片，但不是全部。`,
    limitNoThreshold: "这个网络没有设定“以上都不是”的阈值。",
    limitConfidence:
      "百分比针对的是与训练图片相似的图片：在 100 个 90% 的回答中，应有大约 90 个是正确的。对于其他图片（绘画、夜景、少见的视角），它说明不了什么。",
    limitSize: (size, crop) =>
      `它看到的是 ${size} × ${size} 像素的正方形：${
        { center: "图片的中间部分", squash: "整张图片（比例会改变）", letterbox: "加上边框的整张图片" }[crop]
      }。更小的细节会丢失。`,
    limitHeat: "橙色标出支持该类别的部分，但不说明原因，也不说明理由是否充分。",
    limitPrivacy: "图片只会发送到这台服务器，并且不会被保存。",
    facts: (card) => `${card.name}，由 ${card.computed_by} 计算，resnetlab ${card.version}。`,
    reference: "API 说明（英文）",
    camera: "拍照",
    shoot: "使用这张照片",
    cancel: "取消",
    tokenTitle: "此服务需要令牌",
    tokenLabel: "令牌",
    tokenSend: "继续",
    wrongToken: "令牌未被接受。",
    unreachable: "服务器没有回应。它还在运行吗？",
    notImages: "这不是图片。",
    tooLarge: (card) => `太大了：一次最多 ${card.max_images} 张图片、${card.max_megabytes} MB。`,
    busy: (seconds) => `服务器繁忙，请在 ${seconds} 秒后重试。`,
    late: "未能及时得到回答，请重试。",
    failed: "服务器出错，详情见其日志。",
  },
};

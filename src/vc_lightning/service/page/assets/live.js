// The tab "Live": microphone -> live_worklet.js -> WebSocket /live -> server, and back.
// A client like any other: docs/live.md describes the messages.

window.vcLive = (() => {
  const FOLDER = new URL("page/", document.baseURI);
  const MAX_UNSENT_SECONDS = 1; // of sound; if more waits to be sent, the connection is closed
  const BYTES_PER_SAMPLE = 4;
  let context = null;
  let session = null; // { socket, node, microphone } of the running session

  const show = (id, text) => (document.getElementById(id).textContent = text);
  const say = (text) => show("live_status", text);
  const seconds = (value) => `${value.toFixed(2)} s`;

  // Called in the click itself: browsers start sound only then.
  function wake() {
    context ??= new AudioContext({ latencyHint: "interactive" });
    context.resume();
  }

  async function start(ticket, hasLoudspeakers) {
    close();
    if (!ticket) return say("");
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      return say("Browsers give pages the microphone only over https, or on the server's own computer.");
    }
    say("Asking for the microphone");
    const mine = (session = {});
    try {
      mine.microphone = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: hasLoudspeakers, noiseSuppression: false, autoGainControl: false },
      });
      await context.audioWorklet.addModule(new URL("live_worklet.js", FOLDER));
    } catch (error) {
      if (mine === session) close();
      return say(`There is no microphone: ${error.message}`);
    }
    if (mine !== session) return mine.microphone.getTracks().forEach((track) => track.stop());
    mine.node = new AudioWorkletNode(context, "live-voice", { outputChannelCount: [1] });
    context.createMediaStreamSource(mine.microphone).connect(mine.node).connect(context.destination);
    const address = new URL("live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    mine.socket = new WebSocket(address);
    mine.socket.binaryType = "arraybuffer";
    const hello = { rate: context.sampleRate, format: "float32", ticket, wait: true, skip: true };
    mine.socket.onopen = () => mine.socket.send(JSON.stringify(hello));
    mine.socket.onmessage = ({ data }) => mine === session && take(mine, data);
    mine.socket.onclose = ({ code }) =>
      mine === session && !mine.isOver && end(mine, code === 1000 ? "The end." : "The connection was lost.");
    mine.node.port.onmessage = ({ data }) => mine === session && observe(mine, data);
  }

  function take(mine, data) {
    if (data instanceof ArrayBuffer) {
      const samples = new Float32Array(data);
      return mine.node.port.postMessage({ samples }, [samples.buffer]);
    }
    const message = JSON.parse(data);
    if (message.wait) return say(`Waiting: ${message.wait}`);
    if (message.error) return end(mine, `The end: ${message.error}.`);
    if (message.skipped) return mine.node.port.postMessage({ skipped: message.skipped });
    mine.node.port.postMessage({ type: "open" });
    say("Speak now.");
  }

  function observe(mine, data) {
    if (data.isSilent) return close();
    if (data.samples) {
      const isOpen = mine.socket.readyState === WebSocket.OPEN && !mine.isOver;
      if (!isOpen) return;
      const unsent = mine.socket.bufferedAmount / BYTES_PER_SAMPLE / context.sampleRate;
      if (unsent > MAX_UNSENT_SECONDS) {
        end(mine, "The connection to the server is too slow for live sound.");
        return mine.socket.close();
      }
      return mine.socket.send(data.samples);
    }
    document.getElementById("live_level").value = data.level;
    if (data.delay === null) return;
    const device = context.baseLatency + (context.outputLatency || 0);
    show("live_delay", `${seconds(data.delay)} and ${seconds(device)} of the sound device`);
    show("live_gaps", data.gaps);
  }

  // The server has sent everything; the queue is still played.
  function end(mine, text) {
    mine.isOver = true;
    say(text);
    stopMicrophone(mine);
    mine.node.port.postMessage({ type: "over" });
  }

  // The microphone stops; the server sends the rest.
  function stop() {
    if (!session?.socket) return close();
    session.node.port.postMessage({ type: "close" });
    stopMicrophone(session);
    if (session.socket.readyState === WebSocket.OPEN) {
      session.socket.send(JSON.stringify({ end: true }));
    } else {
      close();
    }
  }

  function stopMicrophone(mine) {
    mine.microphone?.getTracks().forEach((track) => track.stop());
    document.getElementById("live_level").value = 0;
  }

  function close() {
    const old = session;
    session = null;
    if (!old) return;
    stopMicrophone(old);
    old.node?.disconnect();
    old.socket?.close();
  }

  return { wake, start, stop };
})();

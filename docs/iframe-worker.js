/* Search needs a worker, and a browser allows none to a page that is read from a folder (file:).
   Material for MkDocs loads a replacement from a public server; this is one without a network:
   the worker's script runs in a hidden frame. Material looks for the name IFrameWorker. */
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.frame = frame.contentWindow
      const answer = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      this.frame.document.open().write("<!doctype html><title>search</title>")
      this.frame.document.close()
      this.frame.postMessage = answer
      this.frame.importScripts = (...urls) =>
        urls.reduce((before, one) => before.then(() => this.load(one)), Promise.resolve())
      this.ready = this.load(url)
    }

    load(url) {
      return new Promise((done, failed) => {
        const script = this.frame.document.createElement("script")
        script.src = url
        script.onload = done
        script.onerror = failed
        this.frame.document.body.appendChild(script)
      })
    }

    postMessage(data) {
      this.ready.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.frameElement.remove()
    }
  }
  window.Worker = window.IFrameWorker
}

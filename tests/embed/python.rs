//! `pipelines/embed.py` beside the same server.

use super::*;

/// `pipelines/embed.py` with the plugin that cargo built; None where Python lacks what it needs.
fn embed_py(folder: &Path, arguments: &[&str]) -> Option<Killed> {
    let modules = "import gi, numpy; gi.require_version('GstVideo', '1.0')";
    let python = "/usr/bin/python3";
    let checked = Command::new(python).args(["-c", modules]).output();
    if !checked.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: install python3-gi, python3-numpy and gir1.2-gst-plugins-base-1.0");
        return None;
    }
    std::os::unix::fs::symlink(library(), folder.join("libgstrsdetectnet.so")).unwrap();
    let mut command = Command::new(python);
    command.arg(tests_file("../pipelines/embed.py"));
    command.args(arguments).current_dir(folder);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("GST_PLUGIN_PATH", folder);
    command.env("GST_REGISTRY", folder.join("registry.bin"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(Killed(command.spawn().unwrap()))
}

#[test]
fn the_example_in_python_is_back_within_3_s_after_the_server_is() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let (server, _) = rtsp_server(port, "blue");
    let address = format!("rtspt://127.0.0.1:{port}/gate");
    let model = format!("model={}", model("colors-ssd.onnx"));
    let labels = tests_file("models/colors.labels.txt");
    let labels = format!("labels={}", labels.display());
    let arguments = [&address, "found", &model, &labels, "crop-classes=red,blue"];
    let Some(mut program) = embed_py(folder.path(), &arguments) else {
        return;
    };
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.contains(".jpg blue "), "{first}");
    drop(server);
    thread::sleep(Duration::from_secs(1));
    let (_server, back) = rtsp_server(port, "red");
    let second = lines.next().unwrap().unwrap();
    println!(
        "embed.py: a new picture {:.2?} after the server was back",
        back.elapsed()
    );
    assert!(second.contains(".jpg red "), "{second}");
    assert!(back.elapsed() < Duration::from_secs(3));
    for line in [first, second] {
        let name = line.split(' ').next().unwrap();
        assert!(folder.path().join("found").join(name).is_file());
    }
}

//! The real nginx of a node, entirely inside the node's private `/run`.

use std::{fmt::Write as _, fs, io, path::Path, process::Command};

use super::{error::LabError, spec::Web};

/// The response header that names the node that answered.
pub const NODE_HEADER: &str = "X-Node";
/// A page of [`BIG_PAGE_BYTES`] bytes, its content given by [`big_page`].
pub const BIG_PAGE_PATH: &str = "/big";
/// Enough for segmentation offloads to matter.
pub const BIG_PAGE_BYTES: usize = 1 << 20;
/// Accepts a POST of up to 64 MiB and answers with the number of bytes nginx received.
pub const UPLOAD_PATH: &str = "/upload";

/// A line of text for every 16 bytes, so that a misplaced segment shows.
pub fn big_page() -> Vec<u8> {
    let mut page = String::with_capacity(BIG_PAGE_BYTES);
    for line in 0..BIG_PAGE_BYTES / 16 {
        let _ = writeln!(page, "{line:015}");
    }
    page.into_bytes()
}

/// Writes pages and configuration below `root`, the node's root folder as seen from here.
pub(crate) fn install(root: &Path, node: &str, web: &Web) -> Result<(), LabError> {
    let folder = root.join("run/nginx");
    let html = folder.join("html");
    fs::create_dir_all(&html).map_err(LabError::io(format!("making {}", html.display())))?;
    // A killed nginx leaves its socket behind, and the next one would not start.
    let socket = folder.join("count.sock");
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LabError::io(format!("removing {}", socket.display()))(error));
        }
        _ => (),
    }
    let title = &web.title;
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"zh\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1><p>{node}</p></body>\n</html>\n"
    );
    for (path, content) in [
        (html.join("index.html"), page.into_bytes()),
        (html.join(&BIG_PAGE_PATH[1..]), big_page()),
        (folder.join("nginx.conf"), configuration(node, web.port).into_bytes()),
    ] {
        fs::write(&path, content).map_err(LabError::io(format!("writing {}", path.display())))?;
    }
    Ok(())
}

/// nginx in the foreground.
pub(crate) fn command() -> Command {
    let mut nginx = Command::new("nginx");
    // -e: before it has read a configuration nginx would open its log in the host's /var/log.
    nginx.args(["-p", "/run/nginx", "-c", "/run/nginx/nginx.conf", "-e", "stderr", "-g", "daemon off;"]);
    nginx
}

fn configuration(node: &str, port: u16) -> String {
    format!(
        "user root;\n\
         pid /run/nginx/nginx.pid;\n\
         worker_processes 1;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         \x20 access_log off;\n\
         \x20 default_type text/html;\n\
         \x20 charset utf-8;\n\
         \x20 client_body_temp_path /run/nginx/body;\n\
         \x20 proxy_temp_path /run/nginx/proxy;\n\
         \x20 fastcgi_temp_path /run/nginx/fastcgi;\n\
         \x20 uwsgi_temp_path /run/nginx/uwsgi;\n\
         \x20 scgi_temp_path /run/nginx/scgi;\n\
         \x20 add_header {NODE_HEADER} {node} always;\n\
         \x20 server {{\n\
         \x20   listen {port} backlog=4096;\n\
         \x20   listen [::]:{port} backlog=4096;\n\
         \x20   root /run/nginx/html;\n\
         \x20   # The body is stored whole before it is passed on: an answer means that all of it came.\n\
         \x20   location {UPLOAD_PATH} {{\n\
         \x20     client_max_body_size 64m;\n\
         \x20     proxy_pass http://unix:/run/nginx/count.sock;\n\
         \x20   }}\n\
         \x20 }}\n\
         \x20 server {{\n\
         \x20   listen unix:/run/nginx/count.sock;\n\
         \x20   location / {{ client_max_body_size 64m; return 200 $content_length; }}\n\
         \x20 }}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_big_page_is_as_long_as_it_says() {
        assert_eq!(big_page().len(), BIG_PAGE_BYTES);
    }
}

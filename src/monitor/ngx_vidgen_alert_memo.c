#include <ngx_config.h>
#include <ngx_core.h>
#include "monitor/ngx_vidgen_alert_int.h"


/*
 * What was told of a matter other than a provider is also kept in a file, as
 * "BEGAN ALONE", as long as its end is owed.  The zone is lost where nginx is
 * stopped, the database knows nothing of its own outages, nor whose clock was
 * wrong.
 */

#define NGX_VIDGEN_ALERT_FILE  (NGX_TIME_T_LEN + sizeof(" 0\n"))


static void ngx_vidgen_alert_read(ngx_vidgen_alert_t *alert);
static void ngx_vidgen_alert_write(ngx_vidgen_alert_t *alert);


ngx_int_t
ngx_vidgen_alert_recall(ngx_vidgen_alert_t *alert)
{
    ngx_str_t                  *path, *name;
    ngx_file_info_t             fi;
    ngx_vidgen_relay_alert_t   *memo;

    path = &alert->monitor->conf->path->name;
    name = &alert->name;
    memo = &alert->memo;

    alert->file = ngx_pnalloc(alert->monitor->pool,
                              path->len + name->len + sizeof("/.alert"));
    if (alert->file == NULL) {
        return NGX_ERROR;
    }

    /* without the "*" that it begins with */

    ngx_sprintf(alert->file, "%V/%*s.alert%Z", path, name->len - 1,
                name->data + 1);

    ngx_vidgen_relay_alert_get(alert->monitor->conf->zone, name, memo);

    if (ngx_file_info(alert->file, &fi) == NGX_FILE_ERROR) {
        return NGX_OK;
    }

    alert->filed = 1;
    alert->filed_alone = memo->alone;

    if (memo->said == 0 && !memo->told && memo->owed == 0) {
        ngx_vidgen_alert_read(alert);
    }

    return NGX_OK;
}


static void
ngx_vidgen_alert_read(ngx_vidgen_alert_t *alert)
{
    u_char   *p, text[NGX_VIDGEN_ALERT_FILE];
    time_t    began;
    ssize_t   n;
    ngx_fd_t  fd;

    fd = ngx_open_file(alert->file, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);
    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_ERR, alert->monitor->log, ngx_errno,
                      "vidgen: " ngx_open_file_n " \"%s\" failed",
                      alert->file);
        return;
    }

    n = ngx_read_fd(fd, text, sizeof(text));
    (void) ngx_close_file(fd);

    if (n < (ssize_t) sizeof("1 0\n") - 1) {
        return;
    }

    p = text + n - (sizeof(" 0\n") - 1);
    began = ngx_atotm(text, p - text);

    if (began <= 0 || *p != ' ') {
        return;
    }

    alert->memo.told = 1;
    alert->memo.alone = p[1] == '1';
    alert->memo.began = began;
    alert->memo.said = began;
    alert->filed_alone = alert->memo.alone;

    ngx_vidgen_alert_keep(alert);
}


void
ngx_vidgen_alert_keep(ngx_vidgen_alert_t *alert)
{
    ngx_vidgen_relay_alert_set(alert->monitor->conf->zone, &alert->name,
                               &alert->memo);

    if (alert->file == NULL
        || (alert->filed == alert->memo.told
            && (!alert->filed || alert->filed_alone == alert->memo.alone)))
    {
        return;
    }

    alert->filed = alert->memo.told;
    alert->filed_alone = alert->memo.alone;

    if (alert->filed) {
        ngx_vidgen_alert_write(alert);

    } else if (ngx_delete_file(alert->file) == NGX_FILE_ERROR
               && ngx_errno != NGX_ENOENT)
    {
        /* during an upgrade of the binary another process may have done it */

        ngx_log_error(NGX_LOG_ERR, alert->monitor->log, ngx_errno,
                      "vidgen: " ngx_delete_file_n " \"%s\" failed",
                      alert->file);
    }
}


static void
ngx_vidgen_alert_write(ngx_vidgen_alert_t *alert)
{
    u_char    text[NGX_VIDGEN_ALERT_FILE];
    size_t    len;
    ngx_fd_t  fd;

    len = ngx_sprintf(text, "%T %d\n", alert->memo.began,
                      (int) alert->memo.alone)
          - text;

    fd = ngx_open_file(alert->file, NGX_FILE_WRONLY, NGX_FILE_TRUNCATE,
                       NGX_FILE_DEFAULT_ACCESS);

    if (fd == NGX_INVALID_FILE
        || ngx_write_fd(fd, text, len) != (ssize_t) len)
    {
        ngx_log_error(NGX_LOG_ERR, alert->monitor->log, ngx_errno,
                      "vidgen: \"%s\" could not be written", alert->file);
    }

    if (fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(fd);
    }
}

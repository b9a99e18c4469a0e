#!/usr/bin/perl

# The built module loads into the stock nginx; loaded and not configured it
# adds no process, no shared memory and no folder.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 6;

use VidgenTest::Http qw(get);
use VidgenTest::Nginx;
use VidgenTest::Util qw(slurp);

# without %%HTTP%%, which sets directives of the module
my $config = <<'EOT';
%%GLOBALS%%

worker_processes 2;

events { }

http {
    access_log            off;
    client_body_temp_path %%PREFIX%%/client_body;
    proxy_temp_path       %%PREFIX%%/proxy;
    fastcgi_temp_path     %%PREFIX%%/fastcgi;
    uwsgi_temp_path       %%PREFIX%%/uwsgi;
    scgi_temp_path        %%PREFIX%%/scgi;

    server {
        listen 127.0.0.1:%%PORT%%;
        return 200 "as ever";
    }
}
EOT

my $state = '/var/lib/nginx';
my @state_before = glob "$state/*";

my $plain = VidgenTest::Nginx->new(module => 0, config => $config)->start;
my $loaded = VidgenTest::Nginx->new(config => $config);

my ($passed, $said) = $loaded->config_test;
ok($passed, 'nginx -t') or diag($said);

$loaded->start;
is(get($loaded->url('/'))->{body}, 'as ever', 'it serves');

is(() = $loaded->processes, () = $plain->processes, 'no further process');
is(shared($loaded), shared($plain), 'no further shared memory');
is_deeply([folders($loaded)], [folders($plain)], 'no further folder');
is_deeply([glob "$state/*"], \@state_before, "none in $state");


sub shared {
    my ($nginx) = @_;
    my $maps = slurp('/proc/' . $nginx->pid . '/maps');
    return scalar(() = $maps =~ /^\S+ rw-s /mg);
}

sub folders {
    my ($nginx) = @_;
    my $prefix = $nginx->prefix;
    return map { substr $_, length $prefix } grep { -d } glob "$prefix/*";
}

#!/usr/bin/perl

# nginx.conf.example passes "nginx -t" as it stands, without a warning, where
# its files are laid out as "make install" does; replaced is only what would
# need rights on this machine.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use File::Basename qw(basename);
use Test::More tests => 3;

use VidgenTest::Nginx;
use VidgenTest::Util qw(root slurp);

my $example = slurp(root() . '/nginx.conf.example');

# what a user without rights cannot have: these folders, those by default, this
# port, which may be taken besides, and another user

$example =~ s{(?<=\s)/(?:run|var/log/nginx)/}{%%PREFIX%%/log/}g;
my @folders = grep { $example !~ /^\s*$_\s/m } 'vidgen_state_path',
    map { "${_}_temp_path" } qw(client_body proxy fastcgi uwsgi scgi);
$example =~ s/^\s+listen +\K80;/127.0.0.1:%%PORT%%;/m;
$example =~ s/^user .*;$//m if $> != 0;
$example =~ s/^http \{\n\K/join '', map { "$_ %%PREFIX%%\/$_;\n" } @folders/me;

my $nginx = VidgenTest::Nginx->new(config => $example, env => {
    VIDGEN_DATABASE    => 'postgresql://edge:pass@db.example.com/app',
    VIDGEN_SECRET      => '0123456789abcdef0123456789abcdef',
    FAL_API_KEY        => 'the-api-key',
    FAL_WEBHOOK_SECRET => 'the-webhook-secret',
});

my $prefix = $nginx->prefix;
mkdir "$prefix/$_" for qw(modules vidgen log);
symlink $nginx->{module}, "$prefix/modules/ngx_http_vidgen_module.so";
symlink $_, "$prefix/vidgen/" . basename($_) for glob root() . '/providers/*';

my ($passed, $said) = $nginx->config_test;
ok($passed, 'nginx -t') or diag($said);
unlike($said, qr/\[(?!notice)\w+\]/, 'not even a warning');

# without its environment it says what is missing

delete $nginx->{env}{FAL_WEBHOOK_SECRET};
(undef, $said) = $nginx->config_test;
my $missing = '"env:FAL_WEBHOOK_SECRET" is not set or empty';
like($said, qr{\[emerg\] .*\Q$missing in $prefix/vidgen/fal.conf\E:\d+$}m,
    'an environment that is incomplete');

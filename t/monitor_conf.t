#!/usr/bin/perl

# The monitor's directives: what is refused, and where the message points; and
# what cannot happen without it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;

use VidgenTest::Nginx;

my @refused = (
    ['vidgen_monitor interval=0;', 'invalid parameter "interval=0"'],
    ['vidgen_monitor interval=10ms;', 'invalid parameter "interval=10ms"'],
    ['vidgen_monitor fails=0;', 'invalid parameter "fails=0"'],
    ['vidgen_monitor fails=-1;', 'invalid parameter "fails=-1"'],
    ['vidgen_monitor passes=x;', 'invalid parameter "passes=x"'],
    ['vidgen_monitor poll=;', 'invalid parameter "poll="'],
    ['vidgen_monitor poll=21d;', 'invalid parameter "poll=21d"'],
    ['vidgen_monitor expire=40000d;', 'invalid parameter "expire=40000d"'],
    ['vidgen_monitor interval=off;', 'invalid parameter "interval=off"'],
    ['vidgen_monitor slow=offf;', 'invalid parameter "slow=offf"'],
    ['vidgen_monitor often;', 'invalid parameter "often"'],
    ['vidgen_monitor off slow=1s;', 'invalid parameter "off"'],
    ['vidgen_monitor;', 'invalid number of arguments'],
    ["vidgen_monitor off;\nvidgen_monitor off;", 'is duplicate'],
    ['vidgen_alert mail token=x chat=1;', 'knows "telegram" only'],
    ['vidgen_alert telegram token=x;', 'needs "token=" and "chat="'],
    ['vidgen_alert telegram chat=1;', 'needs "token=" and "chat="'],
    ['vidgen_alert telegram token=env:NOT_SET_HERE chat=1;',
        '"env:NOT_SET_HERE" is not set or empty'],
    ['vidgen_alert telegram token=file:nowhere chat=1;',
        'is not set or empty'],
    ['vidgen_alert telegram token=a chat=1 url=ftp://x;',
        'must have in "url="'],
    ['vidgen_alert telegram token=a chat=1 every=soon;',
        'invalid parameter "every=soon"'],
    ['vidgen_alert telegram tokn=123:secret chat=1;',
        'invalid parameter "tokn"'],
    ['vidgen_alert telegram "token=a b" chat=1;', 'characters'],
    ['vidgen_state_path a b;', 'invalid number of arguments'],
    ['vidgen_state_path "";', 'needs a path'],
    ["vidgen_state_path a;\nvidgen_state_path b;", 'is duplicate'],
    ['server { vidgen_monitor off; }', 'is not allowed here'],
    ['server { location / { vidgen_health; vidgen_health; } }',
        'is duplicate'],
    ['server { location / { vidgen_health on; } }',
        'invalid number of arguments'],
    ['server { location / { vidgen_health; } }', 'needs a "vidgen_provider"'],
    ['vidgen_state_path %%PREFIX%%/no/folder; vidgen_monitor interval=1s;
        vidgen_provider a { submit { url http://a/; job_id /id; } }',
        'mkdir() "'],
);

my @accepted = (
    'vidgen_monitor slow=0 interval=100ms fails=1000;',
    'vidgen_monitor interval=5m timeout=10s fails=3 passes=1 slow=5s poll=5s
        overdue=10m unknown=30m expire=24h;',
    'vidgen_alert telegram token=a chat=@channel every=0 repeat=1h
        url=https://api.example.com/;',
    'vidgen_monitor slow=off poll=20d interval=36500d expire=36500d;',
    'vidgen_alert telegram token=a chat=1 every=off repeat=off;',
    'vidgen_state_path state;',
);

# With the monitor off: what is not going to happen is said, once.

my $submit = 'submit { url http://a/; job_id /id; }';
my $poll = 'poll { url http://a/$vidgen_provider_job_id; status /s;
    video_url /u; }';
my $webhook = 'webhook { signature hmac-sha256 header=X; secret abc;
    job_id /id; status /s; }';
my $keys = 'webhook { signature ed25519 header=X jwks=http://a/keys;
    job_id /id; status /s; }';
my $token = 'webhook { signature token; status /s; }';
my $never = qr/only a "poll" can end jobs of provider "a", .* is off/;

my @warned = (
    ["vidgen_alert telegram token=a chat=1;\nvidgen_provider a { $submit }",
        qr/"vidgen_alert" sends nothing, .* is off/],
    ["vidgen_provider a { $submit $poll }", $never],
    ["vidgen_provider a { submit { url http://a/?\$vidgen_webhook_url;
        job_id /id; } $poll $token } vidgen_secret x;", $never],
    ["vidgen_provider a { $submit $keys }",
        qr/the key set \("jwks="\) of provider "a" is not fetched, .* is off/],
    ["vidgen_provider a { $submit $poll $webhook }", undef],
);

plan tests => 2 * @refused + @accepted + 2 * @warned;

sub test {
    my ($directives) = @_;
    my $nginx = VidgenTest::Nginx->new(config => <<EOT);
%%GLOBALS%%
events { }
http {
    client_body_temp_path %%PREFIX%%/body;
    proxy_temp_path       %%PREFIX%%/proxy;
    fastcgi_temp_path     %%PREFIX%%/fastcgi;
    uwsgi_temp_path       %%PREFIX%%/uwsgi;
    scgi_temp_path        %%PREFIX%%/scgi;
    $directives
}
EOT
    return ($nginx->config_test, $nginx->read_file('nginx.conf'));
}

for my $case (@refused) {
    my ($directives, $message) = @$case;
    my ($passed, $output) = test($directives);
    ok(!$passed, "refused: $directives");
    like($output, qr/\[emerg\].*\Q$message\E/, '... and why');
}

for my $directives (@accepted) {
    my ($passed, $output) = test($directives);
    ok($passed, "accepted: $directives") or diag($output);
}

for my $case (@warned) {
    my ($directives, $message) = @$case;
    (my $name = $directives) =~ s/\n.*//s;
    my ($at, %said);
    for my $off (1, 0) {
        my $monitor = $off ? "vidgen_monitor off;\n" : "\n";
        my ($passed, $output, $file) = test($monitor . $directives);
        $said{$off} = [$output =~ /^(.*\[warn\].*monitor.*)$/mg];
        $at //= 2 + ($file =~ s/vidgen_monitor off.*//sr =~ tr/\n//);
        $passed or diag($output);
    }
    if ($message) {
        my ($line) = @{ $said{1} };
        ok(@{ $said{1} } == 1 && $line =~ $message
            && $line =~ m{/nginx\.conf:$at$}, "a warning: $name")
            or diag(@{ $said{1} });
    } else {
        is_deeply($said{1}, [], "no warning: $name");
    }
    is_deeply($said{0}, [], '... with the monitor: none');
}
